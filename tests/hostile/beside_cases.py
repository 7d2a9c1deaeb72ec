"""Hostile files beside the weights: settings of tokenizers and generation, other people's code, pipes, folders. A file
that says nothing of the model changes no coefficient; one that contradicts it is an error."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Case, command
from hostile_models import LETTERS, ask, copy_of, edited

PROMPT = "a b c d e f g h i j a b"
SIDES = {"direction": "Left", "strategy": "LongestFirst", "stride": 0}
FILLED = {"direction": "Left", "pad_to_multiple_of": 8, "pad_id": 1, "pad_type_id": 0, "pad_token": "a"}
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}"
AWAY = {"AutoTokenizer": ["someone/else--tokenizer.Evil", None], "AutoModel": "someone/else--model.Evil"}


def _same(kind: str, name: str, change: Callable[[Path], Any]) -> Case:
    """What is beside a model changes nothing: its coefficients are those of the untouched model, to the last bit."""

    def run(place: Path) -> Any:
        folder = copy_of(kind, place)
        before = ask(folder, PROMPT).coefs
        change(folder)
        return bool(np.array_equal(before, ask(folder, PROMPT).coefs))

    return Case(f"{kind}-same-{name}", run, right=bool)


def _refused(kind: str, name: str, change: Callable[[Path], Any], says: str, prompt: str = PROMPT) -> Case:
    def run(place: Path) -> Any:
        folder = copy_of(kind, place)
        change(folder)
        return ask(folder, prompt)

    return Case(f"{kind}-{name}", run, says=says)


def _json(name: str, **fields: Any) -> Callable[[Path], None]:
    """Fields that are added to a JSON file, which may be new."""

    def change(folder: Path) -> None:
        old = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
        (folder / name).write_text(json.dumps(old | fields))

    return change


def _text(name: str, content: bytes | str) -> Callable[[Path], None]:
    return lambda folder: _written(folder / name, content.encode() if isinstance(content, str) else content)


def _written(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _folder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return change


def _gone(name: str, target: str | None = None) -> Callable[[Path], None]:
    """A file is removed, or becomes a link."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        if target is not None:
            (folder / name).symlink_to(target)

    return change


def _pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def _added(**fields: Any) -> Callable[[Path], None]:
    token = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return lambda folder: edited(
        folder / "tokenizer.json", lambda found: found["added_tokens"].append({**token, **fields})
    )


def _names(place: Path) -> Any:
    """The two ways to write an accent are two names, which look alike."""
    folder = copy_of("static", place)
    names = [unicodedata.normalize(form, "modèle") for form in ("NFC", "NFD")] + ["gamma"]
    edited(folder / "config.json", lambda config: config | {"models": names, "costs": {}})
    assert len(ask(folder).ranking) == 3
    return json.loads(command("inspect", str(folder), "--json", "--no-tryout"))["odd"]


def _inspected(place: Path) -> list[str]:
    folder = copy_of("llama", place)
    _json("tokenizer_config.json", auto_map=AWAY)(folder)
    _text("chat_template.jinja", LOOP)(folder)
    (folder / "tokenization_evil.py").write_text("raise SystemExit(1)")
    odd: list[str] = json.loads(command("inspect", str(folder), "--json"))["odd"]
    return odd


TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
HARMLESS: dict[str, Callable[[Path], Any]] = {
    "truncation": _json(TOKENIZER, truncation={**SIDES, "max_length": 3}),
    "padding": _json(TOKENIZER, padding={**FILLED, "strategy": "BatchLongest"}),
    "padding-to-a-length": _json(TOKENIZER, padding={**FILLED, "strategy": {"Fixed": 500}}),
    "generation": _text("generation_config.json", '{"custom_generate": "someone/else", "max_length": 1e400}'),
    "generation-damaged": _text("generation_config.json", "[" * 100_000),
    "generation-is-a-folder": _folder("generation_config.json"),
    "generation-is-a-pipe": _pipe("generation_config.json"),
    "generation-nowhere": _gone("generation_config.json", "nowhere"),
    "preprocessor": _text("preprocessor_config.json", json.dumps({"auto_map": AWAY})),
    "processor": _text("processor_config.json", json.dumps({"auto_map": AWAY})),
    "sentencepiece": _text("tokenizer.model", b"\x0a\xff\xff\xff\xff\x0f" * 1000),
    "spiece": _text("spiece.model", bytes(10_000)),
    "pickle": _text("pytorch_model.bin", b"cos\nsystem\n(S'exit 1'\ntR."),
    "training-arguments": _text("training_args.bin", b"cos\nsystem\n(S'exit 1'\ntR."),
    "flax": _text("flax_model.msgpack", b"\xff" * 100),
    "index-of-others": _text("pytorch_model.bin.index.json", '{"weight_map": {"x": "../../secret"}}'),
    "code": _text("__init__.py", "raise SystemExit(1)"),
    "conftest": _text("conftest.py", "raise SystemExit(1)"),
    "a-module-of-python": _text("json.py", "raise SystemExit(1)"),
    "a-module-of-numpy": _text("numpy.py", "raise SystemExit(1)"),
    "history-damaged": _text("training_history.json", "[" * 100_000),
    "card-of-nul": _text("README.md", bytes(100_000)),
    "card-is-a-folder": _folder("README.md"),
    "name-of-bytes": lambda folder: _written(Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")), b"x"),
    "name-of-lines": _text("a\nb\x1b[2J", "x"),
}
OF_LLAMA: dict[str, Callable[[Path], Any]] = {
    **{
        name: HARMLESS[name] for name in ("truncation", "padding", "padding-to-a-length", "generation", "sentencepiece")
    },
    **{name: HARMLESS[name] for name in ("generation-damaged", "generation-is-a-pipe", "pickle", "a-module-of-numpy")},
    "code-elsewhere": _json(SETTINGS, auto_map=AWAY),
    "length-of-1": _json(SETTINGS, model_max_length=1),
    "length-of-1e30": _json(SETTINGS, model_max_length=10**30),
    "sides": _json(SETTINGS, padding_side="left", truncation_side="left"),
    "cleaned-up": _json(SETTINGS, clean_up_tokenization_spaces=True),
}
CASES = [
    *(_same("static", name, change) for name, change in HARMLESS.items()),
    *(_same("llama", name, change) for name, change in OF_LLAMA.items()),
    _refused("static", "added-of-32-bits", _added(id=2**32 - 1, content="zz"), "does not know", "zz"),
    _refused("static", "added-of-64-bits", _added(id=2**64 - 1, content="zz"), "is damaged"),
    _refused("static", "added-negative", _added(id=-1, content="zz"), "is damaged"),
    _refused("static", "added-text", _added(id="0", content="zz"), "is damaged"),
    _refused("static", "added-without-content", _added(id=3), "is damaged"),
    _same("static", "added-of-nothing", _added(id=len(LETTERS), content="")),
    *(
        _refused(
            "static", f"truncation-{key}", _json(TOKENIZER, truncation={**SIDES, "max_length": value}), "is damaged"
        )
        for key, value in {"negative": -1, "text": "3", "of-65-bits": 2**65, "nan": "NaN"}.items()
    ),
    *(
        _refused(kind, f"{name}-is-a-folder", _folder(name), says)
        for kind, name, says in (
            ("static", "config.json", "config.json|is no"),
            ("static", "tokenizer.json", "tokenizer"),
            ("static", "model.safetensors", "model.safetensors|weights"),
            ("llama", "tokenizer.json", "tokenizer"),
            ("llama", "model.safetensors", "model.safetensors|weights"),
        )
    ),
    *(
        _refused(kind, f"{name}-{where}", _gone(name, target), says)
        for where, target in {"nowhere": "nowhere", "of-itself": "config.json", "of-zeros": "/dev/zero"}.items()
        for kind, name, says in (
            ("static", "config.json", "config.json|is no"),
            ("static", "tokenizer.json", "tokenizer"),
            ("static", "model.safetensors", "model.safetensors|weights"),
            ("llama", "model.safetensors", "model.safetensors|weights"),
        )
    ),
    *(
        _refused("llama", f"{name}-is-a-pipe", _pipe(name), says)
        for name, says in (("tokenizer.json", "tokenizer"), ("model.safetensors", "weights|model.safetensors"))
    ),
    *(
        _refused("llama", f"template-{key}", _text("chat_template.jinja", source), "template|utf-8")
        for key, source in {
            "loops": LOOP,
            "half": "{% for",
            "bytes": b"\xff\xfe{{",
            "class": "{{ ''.__class__.__mro__ }}",
        }.items()
    ),
    Case("names-of-two-forms", _names, right=lambda odd: "names of LLMs look like others" in "".join(odd)),
    Case(
        "inspect-tells-of-code-and-loops",
        _inspected,
        right=lambda odd: all(
            any(word in line for line in odd) for word in ("names code", "tokenization_evil", "stopped")
        ),
    ),
]
