"""Results of single questions without a benchmark, and tables in Markdown."""

from __future__ import annotations

import pytest

from p2l_sdk.errors import P2LWarning, ResultsError
from p2l_sdk.mpg import Results
from p2l_sdk.votes.votes import Votes

RIGHT = {"anna": [1, 1, 0, 1], "bert": [0, 1, 0, 0]}


@pytest.mark.parametrize(
    ("name", "spell"),
    [("score", float), ("correct", bool), ("correct", str), ("accuracy", lambda x: "right" * x or "wrong")],
)
def test_questions_without_a_benchmark_are_of_one(name, spell):
    rows = [{"question_id": i, "model": m, name: spell(x)} for m, of in RIGHT.items() for i, x in enumerate(of)]
    results = Results.read(rows)
    assert (results.models, results.benchmarks) == (("anna", "bert"), ("questions",))
    assert results.means.tolist() == [[0.75], [0.25]]
    assert results.counts.tolist() == [[4.0], [4.0]]
    assert results.notes == ("no column of benchmarks: all questions count as one",)


TABLE = """# Scores

| Model | MMLU | [GSM8K](https://example.org/a|b) |
|:--|--:|--:|
| **anna** | 82.5 | 91 |
| `bert\\|2` | 80 |

Others: | none |
"""


def test_a_table_in_markdown(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(TABLE.replace("/a|b", "/a"))
    results = Results.read(file, percent=True)
    assert (results.models, results.benchmarks) == (("anna", "bert|2"), ("MMLU", "GSM8K"))
    assert results.means[0].tolist() == [0.825, 0.91]
    assert results.counts[1, 1] == 0.0  # a row may end early
    file.write_text("| model | a |\n|---|---|\n| x | 1.5 |\n")
    with pytest.raises(ResultsError, match=r"line 3: a is '1.5'"):
        Results.read(file)
    file.write_text("| model | a |\n|---|---|\n| x | 1 | 2 |\n")
    with pytest.raises(ResultsError, match="line 3 has 3 cells, and the header 2"):
        Results.read(file)
    file.write_text("just text | with a bar\n")
    with pytest.raises(ResultsError, match="holds no table in Markdown"):
        Results.read(file)


def test_votes_in_markdown_and_the_first_of_two_tables(tmp_path):
    file = tmp_path / "votes.md"
    rows = "".join(f"| Question {i} | x | y | {'AB'[i % 2]} |\n" for i in range(6))
    header = "| Prompt | Model A | Model B | Winner |\n| --- | --- | --- | --- |\n"
    file.write_text(f"{header}{rows}\n{header}{rows}")
    with pytest.warns(P2LWarning, match="has 2 tables; the first, at line 1, is read"):
        assert len(Votes.read(file)) == 6
