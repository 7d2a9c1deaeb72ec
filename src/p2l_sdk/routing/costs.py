"""What a response of each LLM costs, read from any source.

A cost is USD per response. Computed from token prices (USD per million tokens), it is

    (input_price * input_tokens + output_price * output_tokens) / 1,000,000.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from p2l_sdk.errors import CostError
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.modeling.spec_p2l import ModelSpec, validate_costs
from p2l_sdk.names import find_models

if TYPE_CHECKING:
    from p2l_sdk.routing.prices import PriceMatch
    from p2l_sdk.tables.price_columns import PriceUnits

GENAI_PRICES = "genai-prices"
TOKENS = 500  # default length of the prompt, and of the answer
_LEAST, _MOST = 1e-7, 1.0  # USD per response; beyond, its unit is in doubt
_LEAST_PRICE = 1e-3  # USD per million tokens
CostSource: TypeAlias = "str | Path | Mapping[str, Any]"

_ENTRY = ("input_price", "output_price", "input_tokens", "output_tokens")


@dataclass(frozen=True, eq=False, repr=False)
class Costs(Mapping[str, float]):
    """USD per response by LLM name, for those LLMs whose cost is known.

    Attributes:
        usd: the same as a plain mapping.
        models: names of all LLMs of the model.
        source: description of where the costs come from.
        matches: the match in genai-prices for each LLM; empty for other sources.
    """

    usd: Mapping[str, float]
    models: tuple[str, ...]
    source: str
    matches: Mapping[str, PriceMatch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "usd", MappingProxyType(dict(self.usd)))

    def __reduce__(self) -> tuple[Any, ...]:
        """As its parts: a view of a mapping is not pickled."""
        return type(self), (dict(self.usd), self.models, self.source, dict(self.matches))

    def __getitem__(self, name: str) -> float:
        return self.usd[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.usd)

    def __len__(self) -> int:
        return len(self.usd)

    def __repr__(self) -> str:
        return f"Costs of {len(self)} of {len(self.models)} LLMs ({self.source}): {dict(self.usd)}"

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the LLMs whose cost is unknown."""
        return tuple(name for name in self.models if name not in self.usd)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per LLM: model, cost (None if unknown) and, for genai-prices, how (the kind of match), price
        (the token price) and candidates (if it was not matched)."""
        rows: list[dict[str, Any]] = []
        for name in self.models:
            row: dict[str, Any] = {"model": name, "cost": self.usd.get(name)}
            if name in self.matches:
                match = self.matches[name]
                row |= {"how": str(match.how), "price": None if match.price is None else asdict(match.price)}
                row["candidates"] = [asdict(price) for price in match.candidates]
            rows.append(row)
        return rows


def stored_costs(spec: ModelSpec) -> Costs:
    """The costs stored in a model's config."""
    return Costs(spec.costs, spec.models, "stored with the model")


def overridden(
    known: Mapping[str, float], costs: Mapping[str, float], chosen: Sequence[str] | None, models: tuple[str, ...]
) -> dict[str, float]:
    """Known costs with others in place of some, USD per response; those of LLMs that may be `chosen` keep the names
    that they have there. Raises `CostError` or `UnknownModelError` as `load_costs` does."""
    given = costs.items() if isinstance(costs, Mapping) else ()
    named = {name: cost for name, cost in given if name in (chosen or ())}
    others = {name: cost for name, cost in costs.items() if name not in named} if named else costs
    return {**known, **checked_costs(others, models), **named}


def load_costs(
    source: CostSource,
    models: tuple[str, ...],
    *,
    input_tokens: float = TOKENS,
    output_tokens: float = TOKENS,
) -> Costs:
    """Read costs from any source.

    Args:
        source: one of

            - a mapping {LLM: USD per response}, or {LLM: {"input_price": ..., "output_price": ...}} in USD per million
              tokens, optionally with its own "input_tokens" and "output_tokens";
            - the path of a .json or .yaml file with such a mapping, or of a table (`p2l_sdk.tables.files.KINDS`) with
              the columns model and cost, or model and those four names, or names that say their unit, as "Input ($/1M
              tokens)" does (other columns are ignored);
            - "genai-prices", or "genai-prices:together,openrouter" for the prices of these providers; see
              `routing.prices`.
        models: names of the model's LLMs.
        input_tokens, output_tokens: tokens per response, for costs computed from token prices.

    Raises:
        UnknownModelError: the source names an LLM that is not in `models`, or may be several of them (they are named as
            people write them, see `p2l_sdk.names`).
        CostError: a cost or price is not a finite number >= 0, an LLM has two, or the source cannot be read.
        MissingExtraError: a package that the source needs is not installed.

    Warns:
        P2LWarning: a cost or price is so high or low that it may be in another unit.
    """
    if isinstance(source, Costs) and source.models == models:
        return source
    if isinstance(source, Mapping):
        given = source.source if isinstance(source, Costs) else "a mapping"
        if not isinstance(source, Costs):
            _warn_of_units(source)
        return Costs(checked_costs(source, models, input_tokens, output_tokens), models, given)
    if not isinstance(source, str | Path):
        return Costs(checked_costs(source, models), models, "")  # raises with the legal types
    name, colon, providers = str(source).partition(":")
    if name == GENAI_PRICES:
        from p2l_sdk.routing.prices import match_prices

        chosen = [provider.strip() for provider in providers.split(",")] if colon else []
        matches = match_prices(models, chosen, input_tokens=_tokens("input_tokens", input_tokens))
        prices = {name: match.price for name, match in matches.items() if match.price is not None}
        entries = {n: {"input_price": p.input_price, "output_price": p.output_price} for n, p in prices.items()}
        return Costs(checked_costs(entries, models, input_tokens, output_tokens), models, _label(source), matches)
    table = _read(Path(source))
    _warn_of_units(table)
    return Costs(checked_costs(table, models, input_tokens, output_tokens), models, Path(source).name)


def checked_costs(
    costs: Any, models: tuple[str, ...], input_tokens: float = TOKENS, output_tokens: float = TOKENS
) -> dict[str, float]:
    """Validate a mapping of costs and return USD per response, by the model's own names; errors as in `load_costs`."""
    if not isinstance(costs, Mapping):
        raise CostError(f"costs must be a mapping, {{name: USD per response}}, not {shown(costs)}")
    if isinstance(costs, Costs) and costs.models == models:  # checked before
        return dict(costs.usd)
    found = find_models(costs, models, "the table of costs")
    if len(set(found.values())) < len(found):
        own, _ = Counter(found.values()).most_common(1)[0]
        twice = " and ".join(repr(name) for name, means in found.items() if means == own)
        raise CostError(f"{twice} are the same LLM in the table of costs ({own}); keep one of them")
    tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    return validate_costs(
        {
            found[name]: _of_entry(name, {**tokens, **cost}) if isinstance(cost, Mapping) else cost
            for name, cost in costs.items()
        },
        models,
    )


def costs_as_named(costs: Any, models: tuple[str, ...], named: Mapping[str, str]) -> dict[str, float]:
    """As `checked_costs`, and also by further names of LLMs.

    Args:
        costs: as in `checked_costs`.
        models: the model's own names.
        named: further name -> own name. The cost by the further name is the one given for it, or else the LLM's.
    """
    if not named or not isinstance(costs, Mapping):
        return checked_costs(costs, models)
    own = checked_costs({name: cost for name, cost in costs.items() if name not in named}, models)
    for name, means in named.items():
        if name in costs:
            own |= {name: checked_costs({means: costs[name]}, models)[means]}
        elif means in own:
            own[name] = own[means]
    return own


def response_cost(input_price: float, output_price: float, input_tokens: float, output_tokens: float) -> float:
    """Cost of one response in USD, from prices in USD per million tokens."""
    return (input_price * input_tokens + output_price * output_tokens) / 1_000_000


def _of_entry(name: str, entry: dict[str, Any]) -> float:
    strange = [key for key in entry if key not in _ENTRY]
    lacking = [key for key in _ENTRY if key not in entry]
    if strange or lacking:
        fault = f"has {strange[0]!r}" if strange else f"lacks {lacking[0]!r}"
        raise CostError(
            f"the cost of {name!r} {fault}; give USD per response, or input_price and output_price in USD per million "
            "tokens (and input_tokens, output_tokens of a response)"
        )
    return response_cost(*(_tokens(f"the {key} of {name!r}", entry[key]) for key in _ENTRY))


def _warn_of_units(costs: Any) -> None:
    """Warn of the first cost or price that is hardly in its unit."""
    from p2l_sdk.tables.warn import warn_caller

    for name, entry in costs.items() if isinstance(costs, Mapping) else ():
        prices = isinstance(entry, Mapping)
        values = [entry.get("input_price"), entry.get("output_price")] if prices else [entry]
        unit, least = ("per million tokens", _LEAST_PRICE) if prices else ("per response", _LEAST)
        for value in map(to_number, values):
            if value > _MOST and not prices:
                asked = "is it for 1,000 responses (divide by 1,000), or for a million tokens (say input_price and"
                asked += " output_price)?"
            elif 0 < value < least:
                asked = "is it per token? A price is per million tokens (input_price, output_price)"
            else:
                continue
            warn_caller(f"{value:g} is read as the cost of {name!r} in USD {unit}: {asked}")
            return


def _tokens(what: str, value: Any) -> float:
    number = to_number(value)
    if not number >= 0:
        raise CostError(f"{what} is {shown(value)}; it must be a finite number >= 0")
    return number


def _label(source: Any) -> str:
    from importlib.metadata import version

    return f"{source} {version(GENAI_PRICES)}" if str(source) == GENAI_PRICES else f"{source} ({version(GENAI_PRICES)})"


def _read(path: Path) -> Any:
    from p2l_sdk.tables.documents import yaml_value
    from p2l_sdk.tables.files import KINDS, is_data, kind_of, no_table, read_rows
    from p2l_sdk.tables.json_files import read_json
    from p2l_sdk.tables.notation import require_one_notation
    from p2l_sdk.tables.places import placed
    from p2l_sdk.tables.price_columns import price_units
    from p2l_sdk.tables.sources import table_errors
    from p2l_sdk.tables.text import path_of, read_text

    with table_errors(CostError):
        path_of(path)
        if path.suffix.lower() in (".yaml", ".yml"):
            return yaml_value(read_text(path), repr(str(path)), CostError)
        if kind_of(path) == ".json":
            found = read_json(path)
            if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
                return found
        if kind_of(path) is not None:
            read = read_rows(path)
            rows = [_known(row) for row in read]
            units = price_units(dict.fromkeys(name for row in rows for name in row))
            rows = [units.renamed(row) for row in rows]
            if not rows:
                raise CostError(f"{str(path)!r} holds no costs: it has no row below the names of its columns")
            for name in ("cost", *_ENTRY):
                with placed(lambda row: f"{str(path)!r}, {read.place(row)}"):
                    require_one_notation(name, [row.get(name) for row in rows])
            return _distinct([_of_row(row, units, f"{str(path)!r}, {read.place(at)}") for at, row in enumerate(rows)])
        known = f".yaml, {KINDS}, or {GENAI_PRICES!r}"
        if path.exists() or is_data(path):
            raise CostError(no_table(path, known))
        budget = (
            "" if math.isnan(to_number(str(path))) else f"; a budget is another option: --cost {path} (cost={path})"
        )
        raise CostError(f"{str(path)!r} is no source of costs; give a file ({known}){budget}")


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the names of costs where its own differ in letter case, blanks or hyphens alone; `llm` too."""
    from p2l_sdk.tables.grids import column_key

    names = {**{name: name for name in ("model", "cost", *_ENTRY)}, "llm": "model", "modell": "model"}
    return {
        names.get(column_key(name), name) if names.get(column_key(name)) not in row else name: v
        for name, v in row.items()
    }


def _of_row(row: Mapping[str, Any], units: PriceUnits, place: str) -> tuple[str, Any]:
    if "model" not in row or ("cost" not in row and ("input_price" not in row or units.doubt)):
        doubt = f"; {units.doubt}" if units.doubt else ""
        raise CostError(
            f"{place}: a table of costs has the columns 'model' and 'cost' (USD per response), or "
            f"'model', 'input_price' and 'output_price' (USD per million tokens); it has {', '.join(row)}{doubt}"
        )
    named = {"cost": row["cost"]} if "cost" in row else {key: row[key] for key in _ENTRY if key in row}
    numbers = {key: value if math.isnan(number := units.number(key, value)) else number for key, value in named.items()}
    return row["model"], numbers.get("cost", numbers)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    if twice:
        raise CostError(f"{twice[0]!r} stands twice in the costs; keep one")
    return dict(pairs)
