"""Publish a model on the Hugging Face Hub, and check what a stranger would get.

    hf auth login
    python examples/publish_model.py ORG/NAME [--model FOLDER] [--costs examples/routing9_costs.json] [--public]

Without --model it is the embedded default, to see how it goes. The repository is private, unless you say --public.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from p2l_sdk import P2L

parser = argparse.ArgumentParser()
parser.add_argument("repo_id", help="org/name; it is made if there is none")
parser.add_argument("--model", help="a folder, as p2l train writes it")
parser.add_argument("--costs", type=Path, help="a JSON object: LLM name -> USD per response")
parser.add_argument("--public", action="store_true")
arguments = parser.parse_args()

p2l = P2L.from_pretrained(arguments.model)

# Prices change: what they are today is stored with the model, and its router uses them.
if arguments.costs:
    p2l.costs = json.loads(arguments.costs.read_text(encoding="utf-8"))

# One commit holds all that the model needs anywhere: weights, config, tokenizer, the code for those who have
# transformers alone, handler.py for Inference Endpoints, and a card with a picture of a leaderboard.
commit = p2l.push_to_hub(arguments.repo_id, private=not arguments.public, commit_message="A first version")
print(f"pushed: {commit}")

# Load it as others will: by its id, at that very commit. Every file is checked against its hash.
again = P2L.from_pretrained(arguments.repo_id, revision=commit.oid)
prompts = ["What is 17 * 23?", "Write a haiku about the sea"]
difference = np.abs(again.coefficients(prompts).coefs - p2l.coefficients(prompts).coefs).max()
print(f"loaded: {len(again.models)} LLMs, largest difference of a coefficient {difference:.1g}")
assert difference < 1e-4
assert dict(again.costs) == dict(p2l.costs)
