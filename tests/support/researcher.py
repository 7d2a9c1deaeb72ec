"""A saved model as a user of transformers alone sees it: a process without p2l_sdk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from forks import python as forked
from forks import startup

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


def without_p2l_sdk(home: Path, prompts: list, folders: Iterable[Path], program: str = RESEARCHER) -> list[Any]:
    """What the program prints in its last line, as JSON: by default, the coefficients of each saved model."""
    return answer(program, home, json.dumps(prompts), *folders)


def answer(program: str, home: Path, *arguments: object, python: str = sys.executable) -> Any:
    """The last line that a program prints, parsed as JSON. It runs offline in a process of its own, whose working
    folder and caches are `home`."""
    env = {**startup(os.environ), "HF_HOME": str(home), "PATH": "", "HF_HUB_OFFLINE": "1"}
    words = ("-c", program, *map(str, arguments))
    if python == sys.executable:
        result = forked(*words, cwd=home, env=env, text=True)
    else:
        result = subprocess.run([python, *words], capture_output=True, text=True, cwd=home, check=False, env=env)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])
