"""Research with transformers alone: p2l-sdk is not needed, because the model's code comes with its weights.

    python examples/research_transformers.py FOLDER_OR_HUB_ID

FOLDER was written by `P2L.save_pretrained`: a full model, or an adapter (which also needs peft). The question of this
small study: for which two LLMs does the preference depend most on the prompt?
"""

import itertools
import sys

import torch
from transformers import AutoModel, AutoTokenizer, pipeline

source = sys.argv[1]
prompts = [
    "What is 17 * 23?",
    "Write a haiku about the sea",
    "Write a Python function that reverses a linked list",
    "Who wrote the novel Moby Dick?",
]

# trust_remote_code: the model's classes are Python files next to its weights; read them before you run them
model = AutoModel.from_pretrained(source, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=True)

# `prepare` builds the input as in training, which the tokenizer alone would not
with torch.inference_mode():
    coefs = model(**model.prepare(prompts, tokenizer)).coefs.double()  # (n_prompts, n_models), logits
names = model.config.models
print(f"{len(prompts)} prompts x {len(names)} LLMs, feedback {model.config.feedback}")

# for each prompt, LLM a is preferred to LLM b with probability sigmoid(coef_a - coef_b)
wins = torch.sigmoid(coefs[:, :, None] - coefs[:, None, :])  # (n_prompts, n_models, n_models)
spread = wins.amax(0) - wins.amin(0)
a, b = max(itertools.combinations(range(len(names)), 2), key=lambda pair: spread[pair])
print(f"\nThe pair that depends most on the prompt: {names[a]} against {names[b]}")
for prompt, chance in sorted(zip(prompts, wins[:, a, b].tolist(), strict=True), key=lambda row: -row[1]):
    print(f"  {chance:4.0%}  {prompt}")

# the same model as a pipeline, as in the Hub's widget
best = pipeline("text-classification", model=source, trust_remote_code=True)
print("\nThe first two of each prompt")
for prompt, (first, second) in zip(prompts, best(prompts, top_k=2), strict=True):
    print(f"  {first['label']} {first['score']:.0%}, {second['label']} {second['score']:.0%}  {prompt}")

assert "p2l_sdk" not in sys.modules  # transformers alone was enough
