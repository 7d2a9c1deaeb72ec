"""Your own leaderboard: which LLM is best for the things that *you* ask? Nothing leaves this machine.

    python examples/my_leaderboard.py [CHATS] [--model FOLDER_OR_HUB_ID]

CHATS is a JSON file as chat applications export it: a list of conversations, each with `messages` of a `role` and a
`content`. `my_chats.json` beside this program if not given.
"""

import argparse
import json
from pathlib import Path

from p2l_sdk import P2L

parser = argparse.ArgumentParser()
parser.add_argument("chats", nargs="?", type=Path, default=Path(__file__).with_name("my_chats.json"))
parser.add_argument("--model", help="a folder or a Hub id; the embedded default if not given")
arguments = parser.parse_args()

# A conversation is one prompt: its user turns are read, the answers are not. Those without a user turn say nothing.
chats = json.loads(arguments.chats.read_text(encoding="utf-8"))
asked = [chat for chat in chats if any(message["role"] == "user" for message in chat["messages"])]
prompts = [
    [{"role": m["role"], "content": m["content"]} for m in chat["messages"] if m["role"] in ("user", "assistant")]
    for chat in asked
]

p2l = P2L.from_pretrained(arguments.model)
mine = p2l.aggregate(prompts)
print(mine)

# An interval tells how sure the order is: with few chats, many LLMs share the first place.
low = mine.rating_intervals[mine.order[0], 0]
shared = [name for name, (_, high) in zip(mine.models, mine.rating_intervals, strict=True) if high >= low]
print(f"\nOn your {len(prompts)} conversations {mine.best} is first; {len(shared)} LLMs may share that place.")

# Where would another LLM than your best have been the better choice?
print("\nWhere another LLM is expected to do better:")
for chat, board in zip(asked, p2l.leaderboards(prompts), strict=True):
    if board.best != mine.best:
        chance = board.win_probability(board.best, mine.best)
        print(f"  {chance:.0%} {board.best}: {chat['title']}")

# What would your history have cost, and how good would it have been?
if p2l.costs:
    cheapest, dearest = min(p2l.costs.values()), max(p2l.costs.values())
    print("\nUSD per 1k responses, and the chance to be preferred to another LLM's answer:")
    for budget in (cheapest, (cheapest + dearest) / 2, dearest):
        routes = p2l.route_many(prompts, cost=budget, seed=0)
        score = sum(route.expected_score for route in routes) / len(routes)
        print(f"  {1000 * budget:.2f}  {score:.0%}")
