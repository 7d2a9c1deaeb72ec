"""An application that calls the best LLM it can afford for each request.

    python examples/route_within_budget.py [--budget 0.001] [--llms A,B,...] [--model FOLDER_OR_HUB_ID]

It only needs p2l-sdk: the embedded default model knows 282 LLMs and runs on numpy.
"""

import argparse

from p2l_sdk import P2L

parser = argparse.ArgumentParser()
parser.add_argument("--budget", type=float, default=0.001, help="mean USD per response")
parser.add_argument(
    "--llms", default="llama-3.1-8b,gpt-4o-mini,gemini-2.5-flash,claude-sonnet-4-5", help="those that you can call"
)
parser.add_argument("--model", help="a folder or a Hub id; the embedded default if not given")
arguments = parser.parse_args()
llms = arguments.llms.split(",")  # by the names that you use: the model finds its own
requests = [
    "What is 17 * 23?",
    "Prove that the square root of two is irrational",
    "Write a Python function that reverses a linked list",
    [{"role": "user", "content": "Who wrote the novel Moby Dick?"}],  # a prompt can also be a conversation
]

p2l = P2L.from_pretrained(arguments.model)

# 1. a leaderboard for one prompt: which LLM of all that the model knows would answer it best?
print(p2l.leaderboard(requests[0]))

# 2. requests that arrive one by one: the pacer keeps to the mean budget over all of them, spends more where it gains
#    more, and is told what each call actually cost
pacer = p2l.pacer(arguments.budget, sample=requests, models=llms)
print(f"\nOne by one, ${arguments.budget:g} per response on average")
for request in requests:
    route = p2l.route(request, pacer=pacer, models=llms)
    fallback = next((name for name in route.ranking if name != route.model), "none")  # if the first choice fails
    print(f"  call {route.model}, else {fallback}")
    pacer.record(route.expected_cost)  # a real application calls `route.model` here and records what it paid

# 3. requests that are all known in advance: one mean budget for all of them, spent in the best way
routes = p2l.route_many(requests, cost=arguments.budget, seed=0, models=llms)
spent = sum(route.expected_cost for route in routes) / len(routes)
score = sum(route.expected_score for route in routes) / len(routes)
print(f"\nAll at once: ${spent:.6f} per response, {score:.0%} chance to be preferred to the answer of an opponent")
for route in routes:
    print("  " + " + ".join(f"{share:.0%} {name}" for name, share in route.mixture.items() if share >= 0.005))
