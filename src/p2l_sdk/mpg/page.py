"""The HTML page of a report: plain tables and inline SVG pictures, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from p2l_sdk.mpg.correlation import COEFFICIENTS, Correlation
from p2l_sdk.mpg.fastness import Fastness, measure_text
from p2l_sdk.mpg.node_estimates import NodeEstimates, plural
from p2l_sdk.pictures import require_pyplot

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { border-bottom: 2px solid #999; } .name { text-align: left; }
img { width: 100%; height: auto; } .note { color: #555; } summary { cursor: pointer; margin: .4rem 0; }
"""
_ALT = {  # by file name
    "goodness_fastness.png": "Goodness of each LLM over its Fastness, with the Pareto front",
    "subdomains.png": "Goodness of each LLM by domain and subdomain",
}
_FASTNESS = {
    "usd_per_query": "USD per query",
    "queries_per_second": "queries/s",
    "seconds": "seconds",
    "seconds_to_first_token": "to first token, s",
    "tokens_per_second": "tokens/s",
}


def page(
    goodness: NodeEstimates,
    fastness: Fastness | None,
    agreement: Sequence[Correlation],
    notes: Sequence[str],
    figures: Mapping[str, Any],
) -> str:
    """The complete page as HTML; it closes the figures, which are given by file name."""
    parts = [f"<h1>{html.escape(goodness.caption)}</h1>", *_notes(goodness, notes), _overall(goodness, fastness)]
    for name, figure in sorted(figures.items()):
        parts.append(f'<img alt="{_ALT[name]}" src="{_inline(figure)}">')
    depth = dict(goodness.tree.walk())
    parts.append("<h2>By domain and benchmark</h2>")
    for node in goodness.nodes[1:]:
        title = f"{'&ensp;' * 2 * (depth[node] - 1)}{html.escape(node)}"
        parts.append(f"<details><summary>{title}</summary>{_table(*goodness.cells(node))}</details>")
    if agreement:
        llms = plural(agreement[0].n, "LLM")
        parts += [f"<h2>Agreement with the reference, {llms}</h2>", _agreement(agreement)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(goodness.caption)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _notes(goodness: NodeEstimates, others: Sequence[str]) -> list[str]:
    notes = [
        f"Goodness is the estimated weighted share of questions right, in percent; {_chance(goodness)} ranks: 95 % "
        "interval of the rank; best: probability of being the best of these LLMs.",
        *others,
    ]
    return [f'<p class="note">{html.escape(note)}</p>' for note in notes]


def _chance(goodness: NodeEstimates) -> str:
    if any(goodness.tree.chance.values()):
        return "where the tree names a chance level, it is taken off, so 0 is no better than guessing."
    return "the tree names no chance level, so what guessing earns counts as right."


def _overall(goodness: NodeEstimates, fastness: Fastness | None) -> str:
    header, rows = goodness.cells()
    if fastness is not None:
        for measure, table in fastness.measures.items():
            header = [*header, _FASTNESS[measure]]
            rows = [[*row, measure_text(measure, table[row[1]]) if row[1] in table else ""] for row in rows]
    return _table(header, rows)


def _agreement(agreement: Sequence[Correlation]) -> str:
    rows = [[row.name, *(str(row.coefficients[key]) for key in COEFFICIENTS)] for row in agreement]
    return _table(["rating", *(key.capitalize() for key in COEFFICIENTS)], rows, names=0)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        kind = [' class="name"' if i == names else "" for i in range(len(cells))]
        return "".join(f"<{tag}{k}>{html.escape(c)}</{tag}>" for k, c in zip(kind, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><tr>{line('th', header)}</tr>{body}</table>"


def _inline(figure: Any) -> str:
    """The figure as SVG in a data URL; closes the figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    require_pyplot().close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue().encode()).decode()
