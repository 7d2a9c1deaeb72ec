"""A saved model as a user of transformers alone sees it: a program for a process without p2l_sdk."""

# run in a process that cannot import p2l_sdk, as for a user of transformers alone
RESEARCHER = """
import json, sys
sys.modules["p2l_sdk"] = None
import torch
from transformers import AutoModel, AutoTokenizer
results = []
for folder in sys.argv[2:]:
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        out = model(**model.prepare(json.loads(sys.argv[1]), tokenizer))
    assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
    results.append({k: None if out.get(k) is None else out[k].tolist() for k in ("coefs", "eta", "gamma")})
print(json.dumps(results))
"""
