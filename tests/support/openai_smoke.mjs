// OpenAI's own client for JavaScript against the router: node openai_smoke.mjs BASE_URL; needs `npm install openai`.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 17 * 23?" }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);

const { data: answer, response } = await client.chat.completions
  .create({ model: "p2l", messages, temperature: 0, n: 2, cost: 0.0002 }) // two answers cost twice as much
  .withResponse();

let text = "", usage = null;
const stream = await client.chat.completions.create({
  model: "p2l", messages, stream: true, stream_options: { include_usage: true },
});
for await (const event of stream) {
  text += event.choices[0]?.delta?.content ?? "";
  usage = event.usage ?? usage;
}

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
const calling = (await client.chat.completions.create({ model: "p2l", messages, tools })).choices[0].message;
const results = calling.tool_calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: "sunny" }));
const { data: next, response: stayed } = await client.chat.completions
  .create({ model: "p2l", messages: [...messages, calling, ...results], tools })
  .withResponse();
const tool = {
  call: calling.tool_calls[0].function, again: next.choices[0].message.tool_calls[0].function.name,
  session: stayed.headers.get("x-p2l-session"), streamed: [],
};
for await (const event of await client.chat.completions.create({ model: "p2l", messages, tools, stream: true }))
  for (const call of event.choices[0]?.delta?.tool_calls ?? []) tool.streamed.push(call.function.name);

let refused = null;
try {
  await client.chat.completions.create({ model: "p2l", messages, cost: 0.00000001 });
} catch (error) {
  refused = { status: error.status, message: error.message, param: error.param };
}

const broken = { events: 0, message: null };
try {
  for await (const _ of await client.chat.completions.create({ model: "broken", messages, stream: true }))
    broken.events += 1;
} catch (error) {
  broken.message = error.message;
}

const endless = await client.chat.completions.create({ model: "endless", messages, stream: true });
for await (const _ of endless) break; // which ends the call

console.log(JSON.stringify({
  models, model: answer.model, n: answer.choices.length, routed: response.headers.get("x-p2l-model"), text, usage,
  refused, broken, tool,
}));
