"""List prices of LLMs: a table with model, input_price and output_price in USD per million tokens."""

from __future__ import annotations

from pathlib import Path

from p2l_sdk.errors import ResultsError
from p2l_sdk.tables.columns import is_missing
from p2l_sdk.tables.files import read_rows
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.notation import require_one_notation
from p2l_sdk.tables.places import placed
from p2l_sdk.tables.price_columns import price_units
from p2l_sdk.tables.sources import table_errors


@table_errors(ResultsError)
def read_prices(path: str | Path) -> dict[str, tuple[float, float]]:
    """LLM -> (input price, output price) from a table in a file (`p2l_sdk.tables.files.KINDS`).

    The LLM's name is in `model` or `name`. Rows without a price are skipped. Prices may have names that say their unit.

    Raises:
        ResultsError: the file cannot be read, a column is missing, a price is not a finite number >= 0, or an LLM has
            two rows.
    """
    prices: dict[str, tuple[float, float]] = {}
    rows = read_rows(path)
    table = [{_own(name): value for name, value in row.items()} for row in rows]
    units = price_units(dict.fromkeys(name for row in table for name in row))
    table = [units.renamed(row) for row in table]
    for key in ("input_price", "output_price"):
        with placed(lambda at: f"{str(path)!r}, {rows.place(at)}"):
            require_one_notation(key, [row.get(key) for row in table])
    for at, row in enumerate(table):
        missing = [key for key in ("input_price", "output_price") if key not in row]
        name = row.get("model", row.get("llm", row.get("name")))
        if missing or is_missing(name) or not isinstance(name, str | int | float):
            doubt = f"; {units.doubt}" if units.doubt and missing else ""
            raise ResultsError(f"{str(path)!r}, {rows.place(at)} has no {missing[0] if missing else 'model'}{doubt}")
        if any(is_missing(row[key]) for key in ("input_price", "output_price")):
            continue
        pair = units.number("input_price", row["input_price"]), units.number("output_price", row["output_price"])
        if not all(0 <= price < float("inf") for price in pair):
            place = f"{str(path)!r}, {rows.place(at)}"
            raise ResultsError(f"{place}: the prices of {name!r} must be numbers >= 0, not {pair}")
        name = str(name).strip()
        if name in prices:
            raise ResultsError(f"{str(path)!r} has two rows of {name!r}; keep one")
        prices[name] = pair
    return prices


def _own(name: str) -> str:
    """The name of a column that is one of ours, in whatever letters; others keep theirs, which may say a unit."""
    key = column_key(name)
    return key if key in ("model", "llm", "name", "input_price", "output_price") else name
