"""Hostile values for the options of commands by what an option takes, honest ones, and the files that both name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import click

_TEXTS = [
    "", " ", "-", "--", "\x1b[31mred\x07", "a\nb", "\u202eabc", "\udcff", "x" * 20_000, "\u0661", "None", "null", "{}",
    "[", "%s%n", "{0}", "a" * 300, "../..", "~nobody/x", "\ufeff", "=", ",", "a=b=c", "\U0001f600" * 40, "__init__",
]  # fmt: skip
_NUMBERS = [
    "nan", "inf", "-inf", "1e309", "-1", "0", "1e-320", "9" * 400, "-" + "9" * 5000, "1_0", "\u0663", "0x10", "",
    " ", "9223372036854775808", "1e18", "-0.0", "abc", "99999999999", "1.5", "1,5", "1e308", "18446744073709551616",
    "True",
]  # fmt: skip
_LISTS = [
    "", ",", ",,", "=", "a=", "=b", "a=b", "a=nan", "a=1e309", "a=-1", "a=0", "nobody,nothing", "a,a", "a=1,a=2",
    ",".join(f"llm-{i}" for i in range(3000)), "\x1b[2J,b", "\udcff", "gpt-4o-mini=1e308,gpt-4o-mini=5e-324",
    "gpt-4o-mini=" + "9" * 400, "prompt=prompt", "winner=", "prompt=\x1b[1m", "model_a=model_b", "tie", "x=tie=skip",
]  # fmt: skip
_FILES = [
    "empty.csv", "binary.csv", "zeros.csv", "folder.csv", "missing.csv", "header.csv", "votes.tsv", "loop.csv", "",
    "binary.parquet", "cut.csv.gz", "binary.xlsx", "deep.json", "digits.json", "deep.jsonl", "digits.jsonl",
    "list.json", "scalar.json", "deep.yaml", "digits.yaml", "laughs.yaml", "list.yaml", "tags.yaml", "date.yaml",
    "circle.yaml", "nothing.yaml", "binary.yaml", "surrogate.json", "surrogate.yaml", "surrogate.jsonl", "wide.csv",
    "nul.csv", "latin.csv", "votes.csv/x", "a" * 300 + ".csv", "/dev/null", "/dev/zero", "~nobody/x.csv", ".", "folder",
    "*", "[a].csv", "\udcff.csv", "new\nline.csv", "\x1b[31m.csv", "http://127.0.0.1:9/x.csv", "votes.xlsx:Sheet",
    "org/name", "org/name:split@x", "hostile.csv", "numbers.jsonl", "twice.csv", "model", "broken-model",
    "votes.csv", "config.yaml",
]  # fmt: skip
_OUTPUTS = [
    "", ".", "folder", "full", "votes.csv", "votes.csv/x", "no/such/folder/x", "/dev/full", "/dev/null", "/proc/x/y",
    "loop.csv", "a" * 300, "\udcff", "\x1b[31m", "new\nline", "out.pickle", "out.png", "out.csv", "~nobody/x", "x/../y",
    "out",
]  # fmt: skip
_ADDRESSES = [
    "", "http://", "http://[::1", "http://127.0.0.1:99999", "ftp://x", "http://127.0.0.1:9", "javascript:1", "//x",
    "redis://127.0.0.1:9/0", "redis://[", "http://a b/", "http://\x1b[31m", "http://\udcff",
    "https://user:p@127.0.0.1:9", "x@http://127.0.0.1:9", "x@", "@", "redis://127.0.0.1:99999/x",
    "http://127.0.0.1:9/" + "x" * 3000,
]  # fmt: skip
_MODELS = [
    "", "arena", "routing9", "model", "broken-model", "deep-model", "folder", "missing", "votes.csv", "org/name",
    "org/../name", "http://127.0.0.1:9", "x.gguf", "binary.gguf", "\udcff", "\x1b[31m", "a" * 300, ".", "a/b/c", "main",
    "cuda", "cuda:99", "meta", "nonsense", "genai-prices", "genai-prices:nobody", "genai-prices:",
]  # fmt: skip

HOSTILE = {
    "text": _TEXTS,
    "number": _NUMBERS,
    "list": _LISTS,
    "file": _FILES,
    "output": _OUTPUTS,
    "address": [*_ADDRESSES, *_FILES[:6]],
    "model": _MODELS,
}


def role_of(param: click.Parameter) -> str:
    """What a parameter takes, a key of `HOSTILE`."""
    metavar, name = str(param.metavar or ""), str(param.name)
    if "output" in name or name in ("plot",):
        return "output"
    if not isinstance(param.type, click.types.StringParamType | click.Choice | click.types.BoolParamType):
        return "number"
    if name in ("model", "base", "device", "revision", "adapter", "teacher", "base_revision", "static_from"):
        return "model"
    if "URL" in metavar or name in ("ledger", "host", "origins", "proxies", "judge_name"):
        return "address"
    if any(part in metavar for part in ("FILE", "YAML", "SOURCE", "PATH")):
        return "file"
    if name in ("file", "answers", "source", "votes", "eval_votes", "eval_scores", "costs", "notes", "tree"):
        return "file"
    return "list" if "," in metavar or "=" in metavar else "text"


_GOOD = {
    "votes": "votes.csv", "eval_votes": "votes.csv", "baseline_votes": "votes.csv", "prompts": "prompts.txt",
    "scores": "scores.csv", "eval_scores": "scores.csv", "ratings": "ratings.csv", "results": "results.csv",
    "answers": "answers.jsonl", "questions": "questions.csv", "config": "config.yaml", "checked": "config.yaml",
    "prompt": "Prove that the square root of two is irrational", "models": "gpt-4o-mini,claude-3-5-haiku",
    "opponents": "gpt-4o-mini", "model": "arena", "adapter": "model", "source": "model",
    "judge_name": "j@http://127.0.0.1:9", "base_url": "http://127.0.0.1:9", "ledger": "ledger.db",
    "costs": "costs.json", "name": "gpt-4o-mini", "new_name": "gpt-5-mini", "repo_id": "org/name", "device": "cpu",
    "columns": "prompt=prompt", "winners": "left=model_a", "rename": "b=c", "method": "mean", "tree": "mpg",
    "seed": "1", "port": "0", "host": "127.0.0.1", "prices": "1",
}  # fmt: skip


def good(param: click.Parameter) -> str:
    """An honest value for a parameter."""
    role, name = role_of(param), str(param.name)
    if isinstance(param.type, click.Choice):
        return str(param.type.choices[0])
    if name == "file":
        return "train.yaml" if param.metavar else "prompts.txt"
    if name in _GOOD and not (name == "columns" and role == "list" and "=" not in str(param.metavar)):
        return _GOOD[name]
    return {"number": "1", "output": "made", "file": "votes.csv"}.get(role, "x")


def make_files(folder: Path) -> None:
    """The files, in a folder."""
    votes = "prompt,model_a,model_b,winner\n" + "".join(
        f"question {i % 7} about code,gpt-4o-mini,claude-3-5-haiku,{'tie' if i % 3 else 'model_a'}\n" for i in range(20)
    )
    nested, digits = "[" * 5000 + "]" * 5000, "9" * 5000
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    texts = {
        "votes.csv": votes,
        "votes.tsv": votes,
        "prompts.txt": "write a poem\nsum a list\n",
        "scores.csv": "prompt,gpt-4o-mini,claude-3-5-haiku\nhello,1,0.5\nbye,0,1\nagain,0.2,0.4\n",
        "ratings.csv": "model,category,rating\na,overall,1000\nb,overall,1100\na,code,1000\nb,code,900\n",
        "results.csv": "model,math,code\na,0.5,0.6\nb,0.7,0.4\n",
        "answers.jsonl": "".join(
            json.dumps({"prompt": "2+2?", "model": m, "answer": a, "expected": "4"}) + "\n" for m, a in ("a4", "b5")
        ),
        "questions.csv": "prompt,answer\n2+2?,4\n",
        "asked.jsonl": '{"question_id": "1", "prompt": "2+2?", "answer": "4"}\n',
        "costs.json": '{"gpt-4o-mini": 0.001}',
        "config.yaml": "models:\n  gpt-4o-mini:\n    base_url: http://127.0.0.1:9\n    api_key_env: A_KEY\n",
        "train.yaml": "votes: votes.csv\noutput: made\n",
        "empty.csv": "",
        "header.csv": "prompt,model_a,model_b,winner\n",
        "wide.csv": ",".join(f"c{i}" for i in range(20_000)) + "\n" + "1," * 19_999 + "1\n",
        "nul.csv": "prompt,model_a,model_b,winner\nx\0y,a,b,tie\n",
        "hostile.csv": "prompt,model_a,model_b,winner\n\x1b[31mx,\x1b[2Ja,\u202eb,\x07\n,,,\n",
        "twice.csv": "prompt,prompt,winner\nx,y,tie\n",
        "numbers.jsonl": '{"prompt": "x", "model": "a", "score": 1e400, "cost": 1e308, "rating": NaN, "weight": -1}\n'
        * 3,
        "list.json": "[1, 2, [3]]",
        "scalar.json": "7",
        "deep.json": nested,
        "digits.json": f'{{"gpt-4o-mini": {digits}}}',
        "deep.jsonl": f'{{"prompt": {nested[4200:-4200]}}}\n',
        "digits.jsonl": f'{{"prompt": "x", "model": "a", "score": {digits[:4000]}, "cost": {digits[:4000]}}}\n',
        "surrogate.json": '{"gpt\\ud800": 1}',
        "surrogate.jsonl": '{"prompt": "\\ud800", "model_a": "\\udfff", "model_b": "b", "winner": "tie"}\n',
        "deep.yaml": nested,
        "digits.yaml": f"gpt-4o-mini: {digits[:400]}\nmodels: {{a: {{input_price: {digits[:400]}}}}}\n",
        "laughs.yaml": laughs,
        "list.yaml": "- 1\n- 2\n",
        "tags.yaml": "a: !!python/object/apply:os.system [id]\n",
        "date.yaml": "votes: 2024-99-99\nmodels: !!int x\n",
        "circle.yaml": "models: &a {x: *a}\n",
        "nothing.yaml": "",
        "surrogate.yaml": 'models: {"\\ud800": {base_url: "\\udfff"}}\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    noise = bytes(range(256)) * 8
    for name in ("binary.csv", "binary.parquet", "binary.xlsx", "binary.yaml", "binary.gguf"):
        (folder / name).write_bytes({"binary.parquet": b"PAR1", "binary.xlsx": b"PK\3\4"}.get(name, b"") + noise)
    (folder / "zeros.csv").write_bytes(bytes(5000))
    (folder / "latin.csv").write_bytes(votes.encode() + b"caf\xe9,a,b,tie\n")
    (folder / "cut.csv.gz").write_bytes(gzip.compress(votes.encode() * 20)[:-30])
    for name in ("folder", "folder.csv", "full", "broken-model", "deep-model", "model"):
        (folder / name).mkdir()
    (folder / "full" / "file").write_text("x")
    (folder / "broken-model" / "config.json").write_text('{"model_type": "p2l", "p2l": 7}')
    (folder / "deep-model" / "config.json").write_text(nested)
    (folder / "loop.csv").symlink_to("loop.csv")
