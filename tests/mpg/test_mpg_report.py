"""`p2l mpg report`: the command, its tables, and the agreement with a reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mpg_results import ROWS, refusal
from scipy import stats

from p2l_sdk.cli.mpg_tables import print_report
from p2l_sdk.errors import P2LError, ResultsError
from p2l_sdk.evaluation.metrics import kendall, spearman
from p2l_sdk.mpg import Fastness, Results, correlations, goodness
from p2l_sdk.mpg.report import Report


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    names = [f"m{i}" for i in range(25)]
    y, x = rng.normal(size=25), np.round(rng.normal(size=25), 1)
    z = y + 0.3 * rng.normal(size=25)
    tables = {"x": dict(zip(names, x, strict=True)), "z": dict(zip(names, z, strict=True))}
    noise, near = correlations(tables, dict(zip(names, y, strict=True)))
    expected = stats.pearsonr(x, y)[0], stats.spearmanr(x, y)[0], stats.kendalltau(x, y)[0]
    values = [noise.coefficients[key] for key in ("pearson", "spearman", "kendall")]
    np.testing.assert_allclose([v.value for v in values], expected, atol=1e-12)
    assert (values[1].value, values[2].value) == pytest.approx((spearman(x, y), kendall(x, y)))
    picks = rng.integers(0, 25, (1000, 25))
    plain = np.quantile([stats.spearmanr(x[p], y[p])[0] for p in picks], [0.025, 0.975])
    np.testing.assert_allclose([values[1].low, values[1].high], plain, atol=0.06)
    assert near.differences["kendall"].low > 0
    assert noise.differences == {}
    assert "have 0 LLMs in common" in refusal(correlations, tables, {"other": 1.0})


def test_a_narrow_terminal_keeps_names_whole(monkeypatch, capsys):
    name = "llama-3.3-nemotron-super-49b-v1"
    found = goodness(Results.read([{**row, "model": name if row["model"] == "a" else row["model"]} for row in ROWS]))
    fast = Fastness.of_prices({name: (1.0, 2.0), "b": (1.0, 1.0)}, input_tokens=500, output_tokens=500)
    for columns, best in ((80, False), (120, True)):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_report(Report(found, fast))
        lines = capsys.readouterr().out.splitlines()
        assert any(name in line for line in lines)
        assert max(map(len, lines)) <= columns
        assert any("no room here for: best (--json has all)" in line for line in lines) is not best


def test_report_on_the_command_line(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from p2l_sdk.cli import cli

    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "prices.json").write_text(json.dumps([{"name": n, "input_price": 1, "output_price": 2} for n in "abc"]))
    (tmp_path / "reference.csv").write_text("model,rating\na,1200\nb,1100\nc,1150\n")
    (tmp_path / "tree.yaml").write_text("nodes: {all: [numbers, code], numbers: [math]}\n")
    command = ["mpg", "report", "--results", f"{tmp_path}/r.jsonl", "--tree", f"{tmp_path}/tree.yaml"]
    command += [
        "--prices",
        f"{tmp_path}/prices.json",
        "--reference",
        f"{tmp_path}/reference.csv",
        "--draws",
        "400",
        "--prior",
        "jeffreys",
    ]
    run = CliRunner(env={"COLUMNS": "110"}).invoke
    table = run(cli, [*command, "--output", f"{tmp_path}/out"], catch_exceptions=False).output
    assert [line.split()[1] for line in table.splitlines() if line[:4].strip().isdigit()][:3] == ["a", "b", "c"]
    assert "$0.0015" in table
    assert "Agreement with the reference, 3 LLMs" in table
    assert not [line for line in table.splitlines() if line != line.rstrip()]
    with monkeypatch.context() as patch:
        patch.setattr("p2l_sdk.mpg.goodness", lambda *_, **__: pytest.fail("refused only after the fit"))
        with pytest.raises(P2LError, match="out' exists already; name a new or an empty folder"):
            run(cli, [*command, "--output", f"{tmp_path}/out"], catch_exceptions=False, standalone_mode=False)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "http" not in page.replace("http://www.w3.org", "")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads(run(cli, [*command, "--json"], catch_exceptions=False).output) == data
    assert [row["model"] for row in data["goodness"]["nodes"][0]["rows"]] == ["a", "b", "c"]
    for name in ("goodness_fastness.png", "subdomains.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    (tmp_path / "r.jsonl").write_text(json.dumps({**ROWS[0], "correct": 120}))
    with pytest.raises(ResultsError, match="correct is 120"):
        run(cli, command, catch_exceptions=False, standalone_mode=False)


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("method", "tree, one_factor"),
        ("prior", "table, jeffreys"),
        ("missing", "impute, renormalise"),
        ("weighting", "spread, plain"),
    ],
)
def test_an_unknown_option_is_refused_before_any_file_is_read(option, known, tmp_path):
    from p2l_sdk.cli import cli

    command = ["mpg", "report", "--results", str(tmp_path / "none.jsonl"), f"--{option}", "elo"]
    assert refusal(cli, command, standalone_mode=False) == f"unknown {option} 'elo'; known: {known}"
