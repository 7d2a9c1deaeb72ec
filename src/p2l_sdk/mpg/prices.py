"""List prices of LLMs: a table with model, input_price and output_price in USD per million tokens."""

from __future__ import annotations

from pathlib import Path

from p2l_sdk.errors import ResultsError
from p2l_sdk.tables.columns import is_missing, number_of
from p2l_sdk.tables.files import read_rows
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.notation import require_one_notation
from p2l_sdk.tables.places import placed
from p2l_sdk.tables.sources import table_errors


@table_errors(ResultsError)
def read_prices(path: str | Path) -> dict[str, tuple[float, float]]:
    """LLM -> (input price, output price) from a table in a file (`p2l_sdk.tables.files.KINDS`).

    The LLM's name is in `model` or `name`. Rows without a price are skipped.

    Raises:
        ResultsError: the file cannot be read, a column is missing, a price is not a finite number >= 0, or an LLM has
            two rows.
    """
    prices: dict[str, tuple[float, float]] = {}
    rows = read_rows(path)
    table = [{column_key(name): value for name, value in row.items()} for row in rows]
    for key in ("input_price", "output_price"):
        with placed(lambda at: f"{str(path)!r}, {rows.place(at)}"):
            require_one_notation(key, [row.get(key) for row in table])
    for at, row in enumerate(table):
        missing = [key for key in ("input_price", "output_price") if key not in row]
        name = row.get("model", row.get("llm", row.get("name")))
        if missing or is_missing(name) or not isinstance(name, str | int | float):
            raise ResultsError(f"{str(path)!r}, {rows.place(at)} has no {missing[0] if missing else 'model'}")
        if any(is_missing(row[key]) for key in ("input_price", "output_price")):
            continue
        pair = number_of(row["input_price"]), number_of(row["output_price"])
        if not all(0 <= price < float("inf") for price in pair):
            place = f"{str(path)!r}, {rows.place(at)}"
            raise ResultsError(f"{place}: the prices of {name!r} must be numbers >= 0, not {pair}")
        name = str(name).strip()
        if name in prices:
            raise ResultsError(f"{str(path)!r} has two rows of {name!r}; keep one")
        prices[name] = pair
    return prices
