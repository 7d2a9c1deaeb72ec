"""The architecture: each layer imports only from those below it, no cycles, and the base install stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# lowest layer first; a module may import from its own layer (without cycles) and from those below
FLOORS = [
    ["modeling", "modeling.errors_p2l"],
    ["modeling.feedback_p2l"],
    ["modeling.spec_p2l", "modeling.leaderboard_p2l"],
    ["modeling.prompt_p2l", "modeling.static_p2l"],
    ["modeling.configuration_p2l", "modeling.adapter_p2l"],
    ["modeling.modeling_p2l", "modeling.pipeline_p2l"],
    ["errors"],
    ["hub_errors", "hub_metadata", "settings"],
    ["hub"],
    ["plots"],
    ["results", "frontier"],
    ["scorers.auto_classes"],
    ["scorers", "scorers.static", "scorers.backbone", "scorers.adapter", "scorers.lmarena", "scorers.transformer"],
    ["scorers.remote"],
    ["table_files", "price_matching"],
    ["costs"],
    ["vote_sources"],
    ["vote_columns", "vote_categories"],
    ["scores", "prompt_files"],
    ["votes"],
    ["vote_counts", "comparison_graph"],
    ["pair_likelihood", "prompt_pairs", "aggregation", "routing", "new_row"],
    ["metrics", "metrics.estimates", "metrics.calibration", "metrics.pairs", "metrics.leaderboards"],
    ["allocation", "pacing"],
    ["router"],
    ["tensor_files", "own_votes"],
    ["storage", "model_editing"],
    ["hub_model"],
    ["facade"],
    ["marginal"],
    ["evaluation.predictions"],
    ["evaluation.votes", "evaluation.scores", "evaluation.agreement", "evaluation.categories", "evaluation.subsets"],
    ["evaluation.report"],
    ["evaluation"],
    ["vote_summary"],
    ["hub_votes"],
    ["mpg.wide"],
    ["mpg.tree", "mpg.factor", "mpg.pairing", "mpg.correlation", "mpg.results", "mpg.questions"],
    ["mpg.node_estimates", "mpg.harness", "mpg.livebench", "mpg.prices", "mpg.fastness"],
    ["mpg.goodness", "mpg.pictures"],
    ["mpg"],
    ["mpg.grading", "mpg.endpoint", "mpg.answers_file"],
    ["mpg.measurement"],
    ["mpg.measure"],
    ["mpg.report", "mpg.page", "mpg.tables"],
    ["terminal"],
    ["training", "training.config", "training.checks", "training.score_summary"],
    ["training.token_table", "training.objective", "training.data"],
    ["training.task", "training.heads", "training.callbacks", "training.moving_average"],
    ["training.static", "training.model", "training.trainer"],
    ["training.card", "training.finetune"],
    ["training.run"],
    ["serve.errors", "serve.metrics", "serve.cache", "serve.process", "serve.threads"],
    ["serve.batching", "serve.schemas", "serve.http"],
    ["serve.engine"],
    ["serve.api"],
    ["serve.address", "serve.config", "serve.spend", "serve.breaker", "serve.sse", "serve.pool"],
    ["serve.auth", "serve.choice", "serve.chat_request", "serve.call"],
    ["serve.upstream"],
    ["serve.failover", "serve.relay"],
    ["serve.chat"],
    ["serve.app"],
    ["serve"],
    ["cli.common"],
    [
        "cli.ask",
        "cli.convert",
        "cli.costs",
        "cli.edit_model",
        "cli.evaluate",
        "cli.mpg",
        "cli.push",
        "cli.serve",
        "cli.train",
    ],
    ["cli"],
    ["__main__"],
]
HEIGHT = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}


def modules() -> dict[str, Path]:
    """Every module of the package, by its name relative to p2l_sdk."""
    found = {}
    for root, prefix in ((ROOT / "src" / "p2l_sdk", ""), (ROOT / "modeling", "modeling.")):
        for path in root.rglob("*.py"):
            name = prefix + ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__").removesuffix("__init__").rstrip(".")] = path
    return found


def imports(name: str, path: Path, everywhere: bool) -> set[str]:
    """The p2l_sdk modules that a file imports at import time or also within functions; not those for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not everywhere:
            return
        if isinstance(node, ast.ImportFrom):
            if node.level:  # only modeling/ uses relative imports
                found.add("modeling." + (node.module or ""))
            elif (node.module or "").split(".")[0] == "p2l_sdk":
                inner = (node.module or "").removeprefix("p2l_sdk").lstrip(".")
                submodules = {f"{inner}.{alias.name}".lstrip(".") for alias in node.names} & set(modules())
                found.update(submodules or {inner})
        elif isinstance(node, ast.Import):
            found.update(a.name.removeprefix("p2l_sdk.") for a in node.names if a.name.startswith("p2l_sdk."))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found - {name}


def test_every_module_has_a_floor():
    assert set(modules()) - {""} == set(HEIGHT)


@pytest.mark.parametrize("name", sorted(HEIGHT))
def test_no_import_goes_up(name):
    for other in imports(name, modules()[name], everywhere=True):
        assert HEIGHT[other] <= HEIGHT[name], f"{name} imports {other}, which stands above it"


def test_there_is_no_circle():
    """At import time; within a function a scorer may be chosen by the package it is in."""
    graph = {name: imports(name, path, everywhere=False) for name, path in modules().items()}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph.get(name, ()):
                walk(other, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_the_remote_code_stands_alone():
    """modeling/ runs from a folder of weights: torch, transformers and what they bring, nothing of p2l_sdk."""
    for path in (ROOT / "modeling").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                root = name.split(".")[0]
                assert root in {"torch", "transformers", "safetensors", "peft", "numpy", *sys.stdlib_module_names}, (
                    f"{path.name}: {name}"
                )


def python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_is_light_and_has_no_side_effects():
    heavy = "torch transformers peft datasets pandas pyarrow matplotlib scipy fastapi rich click huggingface_hub"
    python(
        "import logging, os, sys, warnings\n"
        "import numpy\n"  # it adds its own warning filters
        "before = dict(os.environ), list(warnings.filters), list(logging.root.handlers)\n"
        "import p2l_sdk\n"
        "assert before == (dict(os.environ), list(warnings.filters), list(logging.root.handlers))\n"
        f"loaded = [m for m in {heavy.split()!r} if m in sys.modules]\n"
        "assert not loaded, loaded"
    )


def test_the_default_model_answers_without_torch():
    out = python(
        "import sys\n"
        "for name in ('torch', 'transformers', 'pyarrow', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "from p2l_sdk import P2L\n"
        "p2l = P2L.from_pretrained()\n"
        "print(p2l.leaderboard('hello').best, p2l.aggregate(['a', 'b']).best, p2l.route('hello', cost=0.0005).model)"
    )
    assert len(out.split()) == 3


def test_an_extra_that_is_missing_answers_with_its_pip_line(saved):
    folder = saved("llama")
    out = python(
        "import sys\n"
        "for name in ('torch', 'transformers', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "from p2l_sdk import P2L\n"
        "b = P2L.from_pretrained().leaderboard('hello')\n"
        "def training(): import p2l_sdk.training\n"
        f"for f in (lambda: P2L.from_pretrained({str(folder)!r}), b.to_pandas, b.plot, training):\n"
        "    try: f()\n"
        "    except ImportError as error: print(error)"
    )
    assert out.splitlines() == [
        'a llama backbone needs torch, which is not installed: pip install "p2l-sdk[torch]"',
        'to_pandas needs pandas, which is not installed: pip install "p2l-sdk[data]"',
        'plot needs matplotlib, which is not installed: pip install "p2l-sdk[data]"',
        'training needs torch, which is not installed: pip install "p2l-sdk[train]"',
    ]


def test_the_face_is_small_and_whole():
    import p2l_sdk

    assert sorted(p2l_sdk.__all__) == p2l_sdk.__all__ or set(p2l_sdk.__all__) <= set(dir(p2l_sdk))
    for name in p2l_sdk.__all__:
        assert hasattr(p2l_sdk, name)
