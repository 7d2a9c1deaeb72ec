"""Hostile entries of a model's folder: pipes, devices, links to secrets, cards, indexes; also where it is copied."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case, command
from hostile_models import ask, copy_of, edited, is_a_board


def _folder(
    name: str, damage: Callable[[Path], Any], use: Callable[[Path], Any], kind: str = "static", **expected: Any
) -> Case:
    def run(place: Path) -> Any:
        folder = copy_of(kind, place)
        damage(folder)
        return use(folder)

    return Case(name, run, **expected)


def _inspect(folder: Path) -> list[str]:
    return json.loads(command("inspect", str(folder), "--json", "--no-tryout"))["odd"]


def _saved(folder: Path) -> list[str]:
    from p2l_sdk import P2L

    P2L.from_pretrained(folder).save_pretrained(folder.parent / "out")
    return sorted(path.name for path in (folder.parent / "out").iterdir())


def _edited(folder: Path) -> str:
    return command("remove-model", "alpha", "--model", str(folder), "--output", str(folder.parent / "out"))


def _pushed(folder: Path) -> Any:
    from p2l_sdk.hub.access import HubTarget
    from p2l_sdk.hub.publish import push_model

    return push_model(folder, HubTarget(repo_id="org/name"))


def _pipe(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def _link(name: str, target: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder.parent / "secret").write_text("the password")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return damage


def _card(text: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / "README.md").write_bytes(text)


def _sparse(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(8 << 30)

    return damage


def _index(places: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))

    return damage


def _many(folder: Path) -> None:
    for i in range(20_000):
        (folder / f"f{i}.json").touch()


def _weights_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "weights.safetensors")
    (folder / "model.safetensors").symlink_to("../weights.safetensors")


def _in_a_cache(place: Path) -> list[str]:
    """A folder as the Hub's cache has it: links to files beside it."""
    folder = copy_of("static", place)
    cached, blobs = place / "models--a--b" / "snapshots" / "1", place / "models--a--b" / "blobs"
    cached.mkdir(parents=True)
    blobs.mkdir()
    for file in folder.iterdir():
        file.rename(blobs / f"of-{file.name}")
        (cached / file.name).symlink_to(blobs / f"of-{file.name}")
    assert _inspect(cached) == []
    return _saved(cached)


def _backbone(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: edited(
        folder / "config.json", lambda config: config | {"backbone_config": config["backbone_config"] | fields}
    )


def _has(*names: str) -> Callable[[list[str]], bool]:
    return lambda found: set(names) <= set(found)


PIPES = ("tokenizer_config.json", "README.md", "x.json", "more.safetensors", "vocab.txt", "LICENSE")
BACKBONES = {
    "heads": {"num_attention_heads": 3},
    "epsilon": {"rms_norm_eps": -1},
    "tied": {"tie_word_embeddings": "x"},
    "cache": {"use_cache": "yes"},
    "layer-types": {"layer_types": ["x", "x"]},
    "scaling": {"rope_scaling": [1]},
}
CASES = [
    *(_folder(f"pipe-{name}", _pipe(name), _inspect, right=lambda odd: True) for name in PIPES),
    *(_folder(f"pipe-{name}-saved", _pipe(name), _saved, right=_has("config.json")) for name in PIPES),
    _folder("pipe-of-weights", _pipe("model.safetensors"), _inspect, right=lambda odd: True),
    _folder("pipe-beside-weights", _pipe("model-2.safetensors"), ask, "llama", right=is_a_board),
    _folder("pipe-as-weights", _pipe("model.safetensors"), ask, "llama", says="no file named model.safetensors"),
    *(
        _folder(f"device-{name}-saved", _link(name, "/dev/zero"), _saved, right=_has("config.json"))
        for name in ("README.md", "x.json", "chat_template.jinja")
    ),
    *(
        _folder(f"secret-{name}-{use.__name__}", _link(name, "../secret"), use, says="is a link to '.*secret', outside")
        for name in ("x.json", "vocab.txt", "x.safetensors")
        for use in (_saved, _pushed)
    ),
    _folder("secret-is-odd", _link("x.json", "../secret"), _inspect, right=lambda odd: "a link to a file" in str(odd)),
    _folder("link-within", _link("x.json", "config.json"), _saved, right=_has("x.json")),
    _folder("link-to-nothing", _link("x.json", "nothing"), _saved, right=_has("config.json")),
    _folder("weights-elsewhere", _weights_elsewhere, _saved, right=_has("model.safetensors")),
    Case("in-a-cache", _in_a_cache, right=_has("model.safetensors", "tokenizer.json")),
    _folder("folder-named-json", lambda folder: (folder / "x.json").mkdir(), _saved, right=_has("config.json")),
    _folder("card-huge", _sparse("README.md"), _inspect, right=lambda odd: "10,000,000 are legal" in str(odd)),
    _folder("card-huge-edited", _sparse("README.md"), _edited, says="10,000,000 are legal"),
    _folder("card-latin-1", _card(b"---\nlicense: m\xe9t\n---\n"), _edited, says="/model/README.md' is no UTF-8 text"),
    _folder(
        "card-long-metadata",
        _card(b"---\n" + b"k: [1, 2, 3]\n" * 200_000 + b"---\n"),
        _inspect,
        right=lambda odd: "500,000 are legal" in str(odd),
    ),
    _folder("template-huge", _sparse("chat_template.jinja"), lambda f: ask(f, untrusted=True), right=is_a_board),
    _folder("code-huge", _sparse("spec_p2l.py"), _inspect, right=lambda odd: "differs from this" in str(odd)),
    _folder("many-files", _many, _inspect, right=lambda odd: odd == [] or len(odd) == 1),
    *(
        _folder(f"index-{name}", _index(places), ask, "llama", says="no .safetensors file of its folder|no weight_map")
        for name, places in {
            "device": {"a": "/dev/zero"},
            "elsewhere": {"a": "../x.safetensors"},
            "pickle": {"a": "x.bin"},
            "number": {"a": 5},
            "list": [],
            "empty": {},
        }.items()
    ),
    *(
        _folder(f"backbone-{name}", _backbone(**fields), ask, "llama", says="config.json .* is damaged: ")
        for name, fields in BACKBONES.items()
    ),
    *(
        _folder(f"backbone-{next(iter(fields))}", _backbone(**fields), ask, "llama", right=is_a_board)
        for fields in ({"num_labels": 10**9}, {"return_dict": False}, {"output_attentions": True})
    ),
]
