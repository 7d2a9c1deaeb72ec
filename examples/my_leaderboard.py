"""Your own leaderboard: which LLM is best for what *you* ask? Nothing leaves this machine.

    python examples/my_leaderboard.py [CHATS] [--model FOLDER_OR_HUB_ID]

CHATS is a JSON file as exported by chat applications: a list of conversations, each with a `title` and `messages`,
which have a `role` and a `content`. The default is `my_chats.json` next to this program.
"""

import argparse
import json
from pathlib import Path

from p2l_sdk import P2L

parser = argparse.ArgumentParser()
parser.add_argument("chats", nargs="?", type=Path, default=Path(__file__).with_name("my_chats.json"))
parser.add_argument("--model", help="a folder or a Hub id; the embedded default if not given")
arguments = parser.parse_args()

# A conversation is one prompt: only its user turns are read. Conversations without a user turn are skipped.
chats = json.loads(arguments.chats.read_text(encoding="utf-8"))
asked = [chat for chat in chats if any(message["role"] == "user" for message in chat["messages"])]
prompts = [
    [{"role": m["role"], "content": m["content"]} for m in chat["messages"] if m["role"] in ("user", "assistant")]
    for chat in asked
]

p2l = P2L.from_pretrained(arguments.model)
mine = p2l.aggregate(prompts)
print(mine)

# The intervals show how certain the order is: with few chats, many LLMs may share the first place.
low = mine.rating_intervals[mine.order[0], 0]
shared = [name for name, (_, high) in zip(mine.models, mine.rating_intervals, strict=True) if high >= low]
print(f"\nOn your {len(prompts)} conversations {mine.best} is first; {len(shared)} LLMs may share that place.")

# For which chats would an LLM other than your best have been the better choice?
print("\nWhere another LLM is expected to do better:")
for chat, board in zip(asked, p2l.leaderboards(prompts), strict=True):
    if board.best != mine.best:
        chance = board.win_probability(board.best, mine.best)
        print(f"  {chance:.0%} {board.best}: {chat['title']}")

# What would these chats have cost within a budget, and how good would the answers have been?
if p2l.costs:
    cheapest, dearest = min(p2l.costs.values()), max(p2l.costs.values())
    print("\nUSD per 1k responses, and the chance to be preferred to another LLM's answer:")
    for budget in (cheapest, (cheapest * dearest) ** 0.5, dearest):
        routes = p2l.route_many(prompts, cost=budget, seed=0)
        score = sum(route.expected_score for route in routes) / len(routes)
        print(f"  {1000 * budget:6.2f}  {score:.0%}")
