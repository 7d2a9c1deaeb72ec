"""Publish a model on the Hugging Face Hub, and check what others will load.

    hf auth login
    python examples/publish_model.py ORG/NAME [--model FOLDER] [--costs COSTS.json] [--public]

Without --model, it publishes the embedded default, so that you can try it out. The repository is private without
--public.
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

# Prices change: today's are stored with the model and used for routing.
if arguments.costs:
    p2l.costs = json.loads(arguments.costs.read_text(encoding="utf-8"))

# One commit contains all that the model needs anywhere: weights, config, tokenizer, the code for use with transformers
# alone, handler.py for Inference Endpoints, and a card with a plot of a leaderboard.
commit = p2l.push_to_hub(arguments.repo_id, private=not arguments.public, commit_message="A first version")
print(f"pushed: {commit}")

# Load it as others will: by its id, at exactly this commit. Every file is checked against its hash.
again = P2L.from_pretrained(arguments.repo_id, revision=commit.oid)
prompts = ["What is 17 * 23?", "Write a haiku about the sea"]
difference = np.abs(again.coefficients(prompts).coefs - p2l.coefficients(prompts).coefs).max()
print(f"loaded: {len(again.models)} LLMs, largest difference of a coefficient {difference:.1g}")
assert difference < 1e-4
assert dict(again.costs) == dict(p2l.costs)
