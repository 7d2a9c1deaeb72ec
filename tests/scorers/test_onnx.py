"""A model exported as an ONNX file: the same coefficients without torch, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
from conftest import save_model

from p2l_sdk import P2L
from p2l_sdk.cli import cli
from p2l_sdk.errors import MissingExtraError, ModelFormatError, P2LError, P2LWarning
from p2l_sdk.hub.onnx_files import ONNX_FILE, ONNX_INT8, ONNX_REPORT, inspect_onnx
from p2l_sdk.scorers.inspect import inspect_model
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.scorers.onnx_prompts import trying_prompts
from p2l_sdk.scorers.onnx_scorer import buckets, lead

pytestmark = pytest.mark.long

onnx = pytest.importorskip("onnx", reason="needs the extra onnx-export")
PROMPTS = [
    "prove that the square root of two is irrational",
    "a",
    [{"role": "user", "content": "write"}, {"role": "assistant", "content": "no"}, {"role": "user", "content": "sum"}],
    "code in python " * 30,  # longer than the limit: the end is kept
    "<|cls|> [SEP] is text",
]  # fmt: skip


def p2l(*arguments) -> None:
    cli([str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Path:
    """A decoder with a chat template, a CLS token, a deep head and every output, exported in float32."""
    place = tmp_path_factory.mktemp("onnx") / "decoder"
    folder = save_model(place, "llama", "ba", head_norm=True, head_hidden_size=8)
    p2l("export", folder, "--runtime", "onnx")
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """An encoder, exported in int8; a few prompts are enough, and all of them may differ."""
    folder = save_model(tmp_path_factory.mktemp("onnx") / "encoder", "bert")
    prompts = folder.parent / "prompts.txt"
    prompts.write_text("\n".join(trying_prompts()[:20]))
    p2l("export", folder, "--runtime", "onnx", "--int8", "--force", "--prompts", prompts)
    return folder


def test_it_gives_the_coefficients_of_torch(decoder):
    ours, theirs = P2L.from_pretrained(decoder, runtime="onnx"), P2L.from_pretrained(decoder)
    mine, torch = ours.coefficients(PROMPTS), theirs.coefficients(PROMPTS)
    for name in ("coefs", "eta", "gamma"):
        np.testing.assert_allclose(getattr(mine, name), getattr(torch, name), atol=2e-5, err_msg=name)
    one_by_one = np.vstack([ours.coefficients([prompt]).coefs for prompt in PROMPTS])
    np.testing.assert_allclose(one_by_one, mine.coefs, atol=2e-5)
    pooled, features = (getattr(load_scorer(decoder), name)(PROMPTS) for name in ("pooled", "features"))
    scorer = load_scorer(decoder, runtime="onnx")
    np.testing.assert_allclose(scorer.pooled(PROMPTS), pooled, atol=1e-4)
    np.testing.assert_allclose(scorer.features(PROMPTS), features, atol=1e-4)
    np.testing.assert_allclose(scorer.rows, load_scorer(decoder).rows)


def test_attention_takes_heads_side_by_side(decoder):
    """As products give them: neither moved to the front, nor repeated where several heads share keys and values."""
    graph = onnx.load(decoder / ONNX_FILE).graph
    kinds = [node.op_type for node in graph.node]
    assert (kinds.count("Attention"), kinds.count("RotaryEmbedding"), kinds.count("Transpose")) == (2, 4, 0)
    numbers = [
        {part.name: part.i for part in node.attribute if part.name.endswith("num_heads")}
        for node in graph.node
        if node.op_type == "Attention"
    ]
    assert numbers == [{"q_num_heads": 4, "kv_num_heads": 2}] * 2


def test_it_runs_without_torch(decoder):
    """In a process in which torch and transformers cannot be imported, nor what is for the export alone."""
    code = f"""
import sys
for name in ("torch", "transformers", "onnx", "onnxscript", "onnx_ir"):
    sys.modules[name] = None
from p2l_sdk import P2L
p2l = P2L.from_pretrained({str(decoder)!r}, runtime="onnx")
print(p2l.coefficients({PROMPTS!r}).coefs.tolist(), p2l.route("sum").model)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout[: done.stdout.rindex("]") + 1])
    np.testing.assert_allclose(found, P2L.from_pretrained(decoder).coefficients(PROMPTS).coefs, atol=2e-5)


def test_the_report_says_how_it_compares(decoder, encoder, capsys):
    report = json.loads((decoder / ONNX_REPORT).read_text())
    assert report["precision"] == "float32"
    assert report["comparison"]["prompts"] == 336
    assert report["comparison"]["equal_routes"] == 1.0
    assert report["comparison"]["largest_difference"] < 1e-4
    assert inspect_model(decoder).onnx == "'float32', the best LLM of torch for 100.0% of 336 prompts"
    assert inspect_model(decoder).odd == ()
    report = json.loads((encoder / ONNX_REPORT).read_text())
    assert report["precision"] == "int8"
    assert 0 < report["comparison"]["largest_difference"] < 1
    assert 0 <= report["comparison"]["scored_again"] < 1
    p2l("inspect", encoder, "--no-tryout")
    assert "'int8', the best LLM of torch for" in capsys.readouterr().out
    assert {"MatMulInteger", "QuantizeLinear"} <= inspect_onnx(encoder / ONNX_INT8).operators
    assert "MatMulInteger" not in inspect_onnx(encoder / ONNX_FILE).operators


def test_the_head_is_not_quantised(encoder):
    graph = onnx.load(encoder / ONNX_INT8).graph
    shapes = {tensor.name: (tuple(tensor.dims), tensor.data_type) for tensor in graph.initializer}
    assert ((4, 32), onnx.TensorProto.FLOAT) in shapes.values() or ((32, 4), onnx.TensorProto.FLOAT) in shapes.values()
    packed = [shape for shape, kind in shapes.values() if kind == onnx.TensorProto.INT8 and len(shape) == 2]
    assert set(packed) <= {(32, 32), (32, 48), (48, 32)}


def test_near_prompts_are_scored_again_in_float32(encoder):
    scorer, exact = load_scorer(encoder, runtime="onnx"), load_scorer(encoder).score(PROMPTS).coefs
    scorer.near = 0.0
    rough = scorer.score(PROMPTS).coefs
    leads = lead(rough)
    assert np.abs(rough - exact).max() > 2e-5
    for n_near in (0, 2, len(PROMPTS)):
        scorer.near = np.sort(leads)[n_near] if n_near < len(PROMPTS) else np.inf
        found, near = scorer.score(PROMPTS).coefs, leads < scorer.near
        np.testing.assert_allclose(found[near], exact[near], atol=2e-5)
        np.testing.assert_array_equal(found[~near], rough[~near])
    scorer.near = np.sort(leads)[2]
    one_by_one = np.vstack([scorer.score([prompt]).coefs for prompt in PROMPTS])
    np.testing.assert_allclose(one_by_one, scorer.score(PROMPTS).coefs, atol=2e-5)


def test_an_edited_model_and_openvino_use_float32_alone(encoder):
    edited = P2L.from_pretrained(encoder, runtime="onnx").remove_model("beta-13b").coefficients(PROMPTS).coefs
    expected = P2L.from_pretrained(encoder).remove_model("beta-13b").coefficients(PROMPTS).coefs
    np.testing.assert_allclose(edited, expected, atol=2e-5)
    pytest.importorskip("openvino", reason="needs the extra openvino")
    assert load_scorer(encoder, runtime="openvino").rough is None


def test_int8_of_another_export_is_refused(encoder, tmp_path):
    shutil.copytree(encoder, tmp_path / "model")
    shutil.copyfile(encoder / ONNX_FILE, tmp_path / "model" / ONNX_INT8)
    with pytest.raises(ModelFormatError, match="was exported from another model"):
        P2L.from_pretrained(tmp_path / "model", runtime="onnx")
    assert "onnx.json does not belong to model.int8.onnx" in inspect_model(tmp_path / "model").odd


def test_what_int8_changes_too_much_is_refused(decoder, monkeypatch, tmp_path):
    from p2l_sdk.scorers import onnx_export

    folder = tmp_path / "model"
    shutil.copytree(decoder, folder, ignore=shutil.ignore_patterns("*onnx*"))
    monkeypatch.setattr(onnx_export, "_write_graph", lambda _, file: shutil.copyfile(decoder / ONNX_FILE, file))
    monkeypatch.setattr(onnx_export, "_LEAST_EQUAL", 1.01)
    with pytest.raises(P2LError, match=r"of 4 prompts.*nothing was written\. Export without --int8;.*\(--force\)"):
        onnx_export.export_onnx(load_scorer(folder), folder, int8=True, prompts=trying_prompts()[:4])
    assert not [path.name for path in folder.iterdir() if "onnx" in path.name]
    monkeypatch.setattr(onnx_export, "_LEAST_EQUAL", 0.0)
    monkeypatch.setattr(onnx_export, "_MOST_AGAIN", -1.0)
    with pytest.raises(P2LError, match=r"of 4 prompts is not ahead enough .* slower than float32 alone; nothing was"):
        onnx_export.export_onnx(load_scorer(folder), folder, int8=True, prompts=trying_prompts()[:4])
    monkeypatch.setattr(onnx_export, "_MOST_AGAIN", 1.0)
    found = onnx_export.export_onnx(load_scorer(folder), folder, int8=True, prompts=trying_prompts()[:4])
    assert "MatMulInteger" in inspect_onnx(folder / ONNX_INT8).operators
    assert 0 < found.largest_difference < 1
    with pytest.raises(P2LError, match="no prompts"):
        onnx_export.export_onnx(load_scorer(folder), folder, prompts=[])


def test_a_backbone_without_products_for_int8_is_refused_by_name(decoder, monkeypatch, tmp_path):
    from p2l_sdk.scorers import onnx_export

    shutil.copytree(decoder, folder := tmp_path / "model", ignore=shutil.ignore_patterns("*onnx*"))
    monkeypatch.setattr(onnx_export, "_write_graph", lambda _, file: shutil.copyfile(decoder / ONNX_FILE, file))
    monkeypatch.setattr(onnx_export, "seen_inputs", lambda *_: {})  # as for GPT-2, which has no Linear
    with pytest.raises(P2LError, match="a llama backbone has no matrix products that int8 can take; export without"):
        onnx_export.export_onnx(load_scorer(folder), folder, int8=True, prompts=["a"])
    assert not [path.name for path in folder.iterdir() if "onnx" in path.name]


def test_it_is_told_once_that_prompts_are_cut_and_what_is_being_done(decoder, monkeypatch, tmp_path):
    from p2l_sdk.scorers import onnx_export

    shutil.copytree(decoder, folder := tmp_path / "model", ignore=shutil.ignore_patterns("*onnx*"))
    monkeypatch.setattr(onnx_export, "_write_graph", lambda _, file: shutil.copyfile(decoder / ONNX_FILE, file))
    scorer, said = load_scorer(folder), []
    with pytest.warns(P2LWarning) as caught:
        onnx_export.export_onnx(
            scorer,
            folder,
            int8=True,
            force=True,
            prompts=["a", "code in " * 40],
            progress=lambda what, _: said.append(what),
        )
    assert ["1 of 2 prompts have more than" in str(one.message) for one in caught] == [True]
    assert [what.split()[0] for what in said] == ["writing", "rounding", "comparing"]
    assert said[-1] == "comparing with torch on 2 prompts"
    with warnings.catch_warnings():
        warnings.simplefilter("error", P2LWarning)
        onnx_export.export_onnx(scorer, folder)  # nobody can mend the built-in ones


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(decoder, monkeypatch, tmp_path):
    from p2l_sdk.scorers import onnx_export

    shutil.copytree(decoder, folder := tmp_path / "model", ignore=shutil.ignore_patterns("*onnx*"))
    (folder / ONNX_FILE).mkdir()
    monkeypatch.setattr(onnx_export, "_write_graph", lambda *_: pytest.fail("this takes minutes"))
    with pytest.raises(P2LError, match=r"model\.onnx' is a folder; name a file"):
        onnx_export.export_onnx(load_scorer(folder), folder)


@pytest.mark.parametrize(
    ("source", "runtime", "said"),
    [
        ("arena", "onnx", "'arena' is an embedded model, which is static: it is as fast without an export"),
        ("default", "onnx", "'default' is an embedded model"),
        ("gpt-4o", "onnx", "there is no folder 'gpt-4o'; a model of the Hub: hf download"),
        ("arena", "openvino", "'openvino' is neither onnx, which OpenVINO runs, too, nor vllm"),
    ],
)
def test_what_is_no_model_to_export_is_told_what_it_is(source, runtime, said):
    with pytest.raises((P2LError, click.BadParameter), match=said):
        p2l("export", source, "--runtime", runtime)


def test_a_saved_copy_has_the_graph_and_an_edited_one_has_not(decoder, tmp_path):
    ours = P2L.from_pretrained(decoder, runtime="onnx", costs={"alpha-7b": 1.0})
    ours.save_pretrained(tmp_path / "copy")
    again = P2L.from_pretrained(tmp_path / "copy", runtime="onnx")
    assert again.costs["alpha-7b"] == 1.0
    np.testing.assert_array_equal(again.coefficients(PROMPTS).coefs, ours.coefficients(PROMPTS).coefs)
    edited = ours.remove_model("beta-13b")
    assert (
        edited.leaderboard("sum").models
        == P2L.from_pretrained(decoder).remove_model("beta-13b").leaderboard("sum").models
    )
    edited.save_pretrained(tmp_path / "edited")
    assert not (tmp_path / "edited" / ONNX_FILE).exists()
    assert not (tmp_path / "edited" / ONNX_REPORT).exists()
    saved = P2L.from_pretrained(tmp_path / "edited").coefficients(PROMPTS).coefs
    np.testing.assert_allclose(saved, edited.coefficients(PROMPTS).coefs, atol=2e-5)
    with pytest.raises(ModelFormatError, match=r"has no model\.onnx .*; write them: p2l export .* --runtime onnx"):
        P2L.from_pretrained(tmp_path / "edited", runtime="onnx")


def test_a_graph_of_other_weights_is_refused(decoder, tmp_path):
    other = save_model(tmp_path / "other", "llama", "ba", head_norm=True, head_hidden_size=8, seed=1)
    for name in (ONNX_FILE, ONNX_REPORT):
        shutil.copyfile(decoder / name, other / name)
    with pytest.raises(ModelFormatError, match="was exported from another model than that of its folder"):
        P2L.from_pretrained(other, runtime="onnx")


def test_openvino_gives_them_too(decoder):
    pytest.importorskip("openvino", reason="needs the extra openvino")
    mine = P2L.from_pretrained(decoder, runtime="openvino").coefficients(PROMPTS)
    torch = P2L.from_pretrained(decoder).coefficients(PROMPTS)
    for name in ("coefs", "eta", "gamma"):  # but for the head, in bfloat16 where the processor has it
        np.testing.assert_allclose(getattr(mine, name), getattr(torch, name), atol=0.1, err_msg=name)


def test_openvino_sees_few_shapes(decoder, monkeypatch):
    pytest.importorskip("openvino", reason="needs the extra openvino")
    scorer, widths = load_scorer(decoder, runtime="openvino"), []
    whole = scorer.run_ids
    monkeypatch.setattr(scorer, "run_ids", lambda ids, *rest: (widths.append(ids.shape[1]), whole(ids, *rest))[1])
    for prompt in PROMPTS:
        scorer.score([prompt])
    assert len(set(widths)) > 1
    assert all(width % 4 == 0 or width == scorer.spec.max_prompt_tokens for width in widths)


@pytest.mark.parametrize("step", [1, 4])
def test_passes_cost_as_few_tokens_as_any_cut(step):
    def cost(lengths):
        return -(-lengths[-1] // step) * step * len(lengths) + (64 if len(lengths) % step == 0 else 128)

    for lengths in ([7], [9] * 8, [3, 5, 40, 41, 44], [400, 20, 300, 24, 21, 260, 25, 290, 22], [1500, 3, 900]):
        passes = buckets([[1] * length for length in lengths], step)
        assert sorted(i for places in passes for i in places) == list(range(len(lengths)))
        found = sum(cost(sorted(lengths[i] for i in places)) for places in passes)
        ordered, n = sorted(lengths), len(lengths)
        cuts = (c for k in range(n) for c in itertools.combinations(range(1, n), k))
        parts = ([ordered[a:b] for a, b in itertools.pairwise((0, *cut, n))] for cut in cuts)
        legal = (cut for cut in parts if all(len(part) == 1 or len(part) * part[-1] <= 1024 for part in cut))
        assert found == min(sum(map(cost, cut)) for cut in legal)
    assert max(map(len, buckets([[1]] * 100, step))) == 32


def test_what_does_not_go_with_a_runtime(decoder, routing9):
    with pytest.raises(P2LError, match="unknown runtime 'tensorrt'; known: torch, onnx, openvino"):
        P2L.from_pretrained(decoder, runtime="tensorrt")
    with pytest.raises(P2LError, match="takes no device; leave it out"):
        P2L.from_pretrained(decoder, runtime="onnx", device="cuda")
    with pytest.raises(P2LError, match="has no text backbone in p2l-sdk's own layout"):
        P2L.from_pretrained("routing9", runtime="onnx")
    with pytest.raises(P2LError, match="a server takes no runtime"):
        P2L.from_pretrained("http://127.0.0.1:1", runtime="onnx")


@pytest.mark.parametrize(("package", "extra"), [("onnxruntime", "onnx"), ("onnxscript", "onnx-export")])
def test_a_missing_package_is_answered_with_its_pip_line(package, extra, decoder, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'needs {package}, which is not installed: pip install "p2l-sdk\[{extra}\]"'
    command = ("export", decoder) if extra == "onnx-export" else ("leaderboard", "sum", "--model", decoder)
    with pytest.raises(MissingExtraError, match=message):
        p2l(*command, "--runtime", "onnx")


def _grown(folder: Path, place: Path, size: list[int]) -> Path:
    """The same model, whose graph adds 0 times the sum of so many numbers to its coefficients."""
    shutil.copytree(folder, place)
    model = onnx.load(place / ONNX_FILE)
    (last,) = (node for node in model.graph.node if "coefs" in node.output)
    last.output[list(last.output).index("coefs")] = "coefs_before"
    made = {"size": np.array(size), "one": np.ones(1, np.float32), "zero": np.zeros(1, np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in made.items())
    node = onnx.helper.make_node
    model.graph.node.extend(
        [
            node("Expand", ["one", "size"], ["grown"]),
            node("ReduceMax", ["grown"], ["all"], keepdims=0),
            node("Mul", ["all", "zero"], ["nothing"]),
            node("Add", ["coefs_before", "nothing"], ["coefs"]),
        ]
    )
    onnx.save(model, place / ONNX_FILE)
    report = json.loads((place / ONNX_REPORT).read_text()) | {"bytes": (place / ONNX_FILE).stat().st_size}
    (place / ONNX_REPORT).write_text(json.dumps(report))
    return place


@pytest.mark.parametrize("runtime", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_graph_that_takes_all_memory_ends_in_a_child(runtime, decoder, tmp_path):
    pytest.importorskip("openvino" if runtime == "openvino" else "onnxruntime")
    modest = _grown(decoder, tmp_path / "modest", [1000])
    ours = P2L.from_pretrained(modest, runtime=runtime, untrusted=True).coefficients(PROMPTS).coefs
    expected = P2L.from_pretrained(decoder, runtime=runtime).coefficients(PROMPTS).coefs
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    bomb = _grown(decoder, tmp_path / "bomb", [40_000, 100_000])
    with pytest.raises(ModelFormatError, match=r"was tried out on at most 256 tokens, with 8 s and .* MB, and failed"):
        P2L.from_pretrained(bomb, runtime=runtime, untrusted=True)


def test_a_graph_from_the_hub_is_tried_out_unasked(decoder, tmp_path):
    repo = tmp_path / "cache" / "models--org--bomb"
    commit = "0" * 40
    _grown(decoder, repo / "snapshots" / commit, [40_000, 100_000])
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    with pytest.raises(ModelFormatError, match=r"was tried out on at most 256 tokens"):
        P2L.from_pretrained("org/bomb", runtime="onnx", cache_dir=tmp_path / "cache", local_files_only=True)


def test_inspect_tries_the_graph_out(decoder, tmp_path, capsys):
    p2l("inspect", _grown(decoder, tmp_path / "bomb", [40_000, 100_000]), "--json")
    (odd,) = json.loads(capsys.readouterr().out)["odd"]
    assert "was tried out on at most 256 tokens" in odd
