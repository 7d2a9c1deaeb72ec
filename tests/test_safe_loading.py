"""No call in the tree loads or runs what a stranger wrote, except through the one loader with the safe options."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

TREES = ("src", "modeling", "hub_cards", "examples", "benchmarks")
FILES = sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py"))
LOADER = "modeling/loading_p2l.py"
# our own classes: their `from_pretrained` goes through the loader, and reads safetensors and cleaned configs alone
OWN = {"P2L", "P2LModel", "P2LConfig"}
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "code",
    "codeop",
    "runpy",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    "torch": {"load", "jit", "hub", "package"},
    "pandas": {"read_pickle", "eval"},
    "pd": {"read_pickle", "eval"},
    "yaml": {"load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all", "Loader", "UnsafeLoader"},
    "tempfile": {"mktemp"},
    "os": {"system", "popen", "execv", "execve", "execvp", "spawnl", "spawnv", "tempnam"},
    "jinja2": {"Environment", "Template"},
}
# where a rule has an exception, and why
ALLOWED = {
    ("modeling/modeling_p2l.py", "super().from_pretrained"),  # of P2LModel itself; it sets use_safetensors
    ("modeling/modeling_p2l.py", "cls.config_class.from_pretrained"),  # of P2LConfig
    ("src/p2l_sdk/tables/documents.py", "yaml.load"),  # with a Loader that is a SafeLoader
    ("examples/research_transformers.py", "AutoTokenizer.from_pretrained"),  # what transformers alone needs, by design:
    ("examples/research_transformers.py", "AutoModel.from_pretrained"),  # the code comes with the user's own model
    ("examples/research_transformers.py", "trust_remote_code"),
}


def name_of(node: ast.AST) -> str:
    """A dotted name, "super().x" included; "" for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{name_of(node.func)}()"
    return ""


def unsafe(text: str) -> Iterator[str]:
    """What a source does that is not safe, by the name under which an exception is made."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.split(".")[0] in MODULES)
            if isinstance(node, ast.ImportFrom):
                bad = ATTRIBUTES.get((node.module or "").split(".")[0], set())
                yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name in bad)
        elif isinstance(node, ast.Attribute):
            owner, _, name = name_of(node).rpartition(".")
            if name in ATTRIBUTES.get(owner, set()):
                yield f"{owner}.{name}"
        elif isinstance(node, ast.Call):
            yield from _unsafe_call(node)


def _unsafe_call(call: ast.Call) -> Iterator[str]:
    name = name_of(call.func)
    last = name.rpartition(".")[2]
    if name in BUILTINS:
        yield name
    owner = name.split(".")[0]
    if (last == "from_pretrained" and owner not in OWN) or (last == "from_config" and owner.startswith("Auto")):
        yield name
    if last in ("load_dataset", "snapshot_download_and_run") or name == "yaml.load":
        yield name
    for keyword in call.keywords:
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg == "trust_remote_code" and value is not False:
            yield "trust_remote_code"
        if keyword.arg in ("allow_pickle", "shell") and value is not False:
            yield f"{name}({keyword.arg}=...)"
        if keyword.arg in ("weights_only", "use_safetensors") and value is not True:
            yield f"{name}({keyword.arg}=...)"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_goes_round_the_loader(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    of_modeling = f"modeling/{path.name}" if place.startswith("hub_cards/") else place  # copies of it
    found = set(unsafe(path.read_text(encoding="utf-8")))
    if of_modeling == LOADER:
        assert found <= {f"{name}.from_pretrained" for name in ("AutoModel", "AutoTokenizer", "PeftModel")}
        return
    if of_modeling == "modeling/modeling_p2l.py":
        found -= {"AutoModel.from_config"}  # of a cleaned configuration; test below
    allowed = {name for file, name in ALLOWED if file == of_modeling}
    assert found - allowed == set()


@pytest.mark.parametrize(
    "source",
    [
        "AutoModel.from_pretrained(x)",
        "transformers.AutoTokenizer.from_pretrained(x, trust_remote_code=False)",
        "P2L.from_pretrained(x, trust_remote_code=True)",
        "f(trust_remote_code=flag)",
        "import pickle",
        "from joblib import load",
        "eval(x)",
        "exec(x)",
        "yaml.load(x)",
        "yaml.unsafe_load(x)",
        "torch.load(x)",
        "from torch import load",
        "torch.hub.load(x)",
        "np.load(x, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "tempfile.mktemp()",
        "from tempfile import mktemp",
        "os.system(x)",
        "pd.read_pickle(x)",
        "datasets.load_dataset(x)",
        "from jinja2 import Template",
        "marshal = __import__('marshal')",
        "load(x, use_safetensors=False)",
        "load(x, weights_only=False)",
    ],
)
def test_each_unsafe_call_is_caught(source: str) -> None:
    assert list(unsafe(source))
    assert not list(unsafe("P2L.from_pretrained(x); model.eval(); yaml.safe_load(x); re.compile(x)"))


def test_the_exceptions_are_needed() -> None:
    used = {(place, name) for place, name in ALLOWED if name in set(unsafe((ROOT / place).read_text(encoding="utf-8")))}
    assert used == ALLOWED
    documents = (ROOT / "src/p2l_sdk/tables/documents.py").read_text(encoding="utf-8")
    assert 'class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))' in documents
    assert "yaml.load(text, _loader())" in documents


def test_the_loader_has_the_safe_options() -> None:
    loader = (ROOT / LOADER).read_text(encoding="utf-8")
    assert loader.count('"trust_remote_code": False') == loader.count("AutoModel.from_pretrained") + loader.count(
        "AutoTokenizer.from_pretrained"
    )
    assert '"use_safetensors": True' in loader
    model = (ROOT / "modeling" / "modeling_p2l.py").read_text(encoding="utf-8")
    assert 'options["use_safetensors"] = True' in model
    assert "AutoModel.from_config(backbone, trust_remote_code=False)" in model
