"""`Tabular`: a result that is rows, as a data frame and as a table in a notebook; `html_text`: a name on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import MissingExtraError
from p2l_sdk.modeling.limits_p2l import visible

if TYPE_CHECKING:
    import pandas

_MOST = 100  # rows in a notebook
_WIDTH, _EIGHTHS = 12, " ▏▎▍▌▋▊▉█"  # characters of a bar in text


class Tabular:
    """What a result with `rows` can do."""

    @property
    def caption(self) -> str:
        """A one-line description."""
        return type(self).__name__

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary of plain values for each row."""
        raise NotImplementedError

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a data frame (needs pandas)."""
        return require_pandas().DataFrame(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        header = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[_text(row.get(name)) for name in header] for row in rows[:_MOST]]
        more = [] if len(rows) <= _MOST else [f"... and {len(rows) - _MOST} more: to_pandas() has all {len(rows)}"]
        return html_table(self.caption, [name.replace("_", " ") for name in header], cells, more)


def require_pandas() -> Any:
    """pandas; MissingExtraError if it is not installed."""
    try:
        import pandas
    except ImportError:
        raise MissingExtraError("to_pandas", "pandas", "data") from None
    return pandas


def html_text(value: Any) -> str:
    """Any value as HTML that shows it, between tags or in an attribute in quotes."""
    from html import escape  # its table of entities takes longer than a prompt

    return escape(visible(str(value)))


def html_table(caption: str, header: Sequence[str], cells: Sequence[Sequence[str]], more: Sequence[str] = ()) -> str:
    """A table in HTML, of plain text; the lines of `more` stand below, each over its whole width."""
    head = "".join(f"<th>{html_text(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{html_text(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    body += "".join(f'<tr><td colspan="{len(header)}">{html_text(text)}</td></tr>' for text in more)
    return f"<table><caption>{html_text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def text_bar(value: float, low: float, high: float, zero: float = 0.0) -> str:
    """A bar in text from a zero to a value, to its right or to its left.

    Args:
        value: of this row.
        low, high: the least and the greatest value of the table; bars are in proportion to their distance.
        zero: where bars start.
    """
    low, high = min(low, zero), max(high, zero)
    cells = _WIDTH / max(high - low, 1e-9)
    start = round((zero - low) * cells)
    if value >= zero:
        eighths = round((value - zero) * cells * 8)
        return " " * start + "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    halves = round((zero - value) * cells * 2)  # there are no eighths of a character that start at its right
    bar = "▐" * (halves % 2) + "█" * (halves // 2)
    return bar.rjust(start) if len(bar) <= start else bar[-start:] if start else ""


def estimates_of(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each metric: metric, value, standard_error and n, as far as they are known."""
    rows = []
    for name, found in metrics.items():
        row = {"metric": name, "value": getattr(found, "value", found)}
        for key in ("standard_error", "n"):
            if (value := getattr(found, key, None)) is not None:
                row[key] = value
        rows.append(row)
    return rows


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
