"""Tables of numbers as people paste them: what cannot be read is told what it is, with the remedy."""

from __future__ import annotations

import pandas
import pytest

from p2l_sdk.errors import P2LError
from p2l_sdk.kinds.ratings import KindRatings
from p2l_sdk.mpg.results import Results
from p2l_sdk.votes.votes import Votes

SCORES = pandas.DataFrame({"model": ["big", "coder", "small"], "code": [0.8, 0.9, 0.4], "law": [0.9, 0.6, 0.7]})
PRINTED = "it looks like a table as it is printed"
READ = {
    "results": Results.read,
    "ratings": lambda file: KindRatings.read(file, "elo"),
    "votes": Votes.read,
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
@pytest.mark.parametrize("index", [None, "model"])
def test_a_table_that_was_printed(read, index, tmp_path):
    file, frame = tmp_path / "table.csv", SCORES if index is None else SCORES.set_index(index)
    file.write_text(frame.to_string())
    with pytest.raises(P2LError, match=PRINTED):
        read(file)


@pytest.mark.parametrize("read", READ.values(), ids=READ)
@pytest.mark.parametrize("form", ["{} ± 1.2", "{}+/-1.2", "{} (1.2)", "{}% ± 1.2%"])
def test_numbers_with_their_errors(read, form, tmp_path):
    file = tmp_path / "table.csv"
    SCORES.assign(**{name: [form.format(100 * x) for x in SCORES[name]] for name in ("code", "law")}).to_csv(
        file, index=False
    )
    with pytest.raises(P2LError, match=r"'code' has cells such as '80.0.*1.2.*': keep the number alone"):
        read(file)


@pytest.mark.parametrize("read", [READ["results"], READ["ratings"]])
def test_a_table_with_the_llms_in_its_columns_is_turned_as_it_says(read, tmp_path):
    file, new = tmp_path / "table.csv", tmp_path / "turned.csv"
    SCORES.set_index("model").T.rename_axis("benchmark").to_csv(file)
    with pytest.raises(P2LError, match=r"turn it: pandas.read_csv\(FILE, index_col='benchmark'\)") as met:
        read(file)
    command = str(met.value).partition("turn it: ")[2]
    eval(command, {"pandas": pandas, "FILE": file, "NEW": new})
    pandas.testing.assert_frame_equal(pandas.read_csv(new), SCORES)


def test_a_table_of_scores_with_the_prompts_in_its_columns(tmp_path):
    file, new = tmp_path / "table.csv", tmp_path / "turned.csv"
    SCORES.rename(columns={"code": "Sum a list", "law": "What is a contract?"}).to_csv(file, index=False)
    with pytest.raises(P2LError, match="if its rows are LLMs and its columns prompts, turn it") as met:
        Votes.read(file)
    eval(str(met.value).partition("turn it: ")[2], {"pandas": pandas, "FILE": file, "NEW": new})
    assert list(pandas.read_csv(new).columns) == ["prompt", "big", "coder", "small"]


def test_other_columns_beside_benchmarks_are_told_how_to_leave_them_out(tmp_path):
    file = tmp_path / "table.csv"
    SCORES.assign(released="May 2025").to_csv(file, index=False)
    with pytest.raises(P2LError, match=r"--columns A,B \(of code, law\);"):
        Results.read(file)
    assert Results.read(file, columns=["code", "law"]).benchmarks == ("code", "law")
