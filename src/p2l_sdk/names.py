"""Names of LLMs as people write them: `gpt-4o-mini` and `openai/gpt-4o-mini` for `gpt-4o-mini-2024-07-18`.

A name is read as the LLM that the first of these rules finds:

1. The same name.
2. The same but for capitals.
3. Normalised: dots, colons, underscores, spaces and the like are hyphens.
4. Less: without "organisation/" (several, too), "provider:" or "region.organisation." in front, or ":free", "-v1:0" at
   the end.
5. The same words: `llama3.1` and `llama-v3p1` are `llama-3.1`, `claude-4-sonnet` is `claude-sonnet-4`.
6. One of the two has no date (or release, `-001`), or says `-latest`.
7. One has no ending of tuned open weights (`-instruct`, `-it`, `-chat`, where the name states a size), no precision
   (`-fp8`), no number of a first version (`-v0.1`, `-v1`), or, with the same date, no `-preview`.
8. Both 6 and 7.

Two LLMs found by the same rule are an error that lists them. Versions, sizes and variants are never exchanged: `gpt-4`
is not `gpt-4-turbo`, `o1` is not `o1-preview`, and a name without `thinking` is not the variant that thinks.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from p2l_sdk.errors import COMMON_WORDS, LONGEST_NAME, UnknownModelError, require_known

_MOST_OTHERS = 5  # names in a message, beside the first one
_FEW = 4  # LLMs that may be meant by the beginning of a name
_KEPT = 16  # lists of LLMs whose names are kept in order
_SAME, _DATE, _ENDING = 0, 1, 2  # bits of how two names differ
_LATEST = "latest"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL_DATE = r"-(20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d)(?=-|$)"
_LAST_DATE = (
    r"-([01]\d-20\d\d|20\d\d[01]\d|(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])|2\d(?:0[1-9]|1[0-2])|0\d\d|"
    rf"(?:{'|'.join(_MONTHS)})[a-z]*-20\d\d)$"
)
_MAKERS = r"^(?:amazon|c4ai|meta|nvidia)-"  # some put themselves in front of a name, with a hyphen
_TUNED = r"-(instruct|it|chat|instant|versatile)$"  # the last two are Groq's
_SIZE = r"\db(?=-|$)"
_FIRST_VERSIONS = ("v0-1", "v1")


def find_model(name: str, models: Sequence[str], what: str) -> str:
    """The LLM that is meant by a name as people write it.

    Args:
        name: as written.
        models: the names of all LLMs.
        what: what holds the name, for the message.

    Raises:
        UnknownModelError: it is none of them (the message names the nearest), or may be several (it lists them).
    """
    found = meant(name, models)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownModelError(f"{what} names {name!r}, which may be {' or '.join(found)}; name one of them")
    begun = [model for model in models if isinstance(name, str) and model.lower().startswith(f"{name.lower()}-")]
    similar = begun if 0 < len(begun) <= _FEW else _of_family(name, models)
    require_known([name], models, what, similar=similar)
    raise AssertionError  # for type checkers: the line above always raises


def _of_family(name: str, models: Sequence[str]) -> list[str]:
    """The LLMs that share most words with a name that says no version, such as `deepseek-chat`: no one is nearest."""
    if not isinstance(name, str) or re.search(r"\d", name):
        return []
    words = set(re.findall(r"[a-z]{2,}", normalised(name)))
    shared = {model: words.intersection(re.findall(r"[a-z]{2,}", model.lower())) for model in models}
    shared = {model: common for model, common in shared.items() if common - COMMON_WORDS}
    most = max(map(len, shared.values()), default=0)
    return [model for model, common in shared.items() if len(common) == most]


def find_models(names: Iterable[str], models: Sequence[str], what: str) -> dict[str, str]:
    """As written -> the LLM that is meant, for many names; see `find_model`."""
    models, names = tuple(models), list(names)
    try:
        return {name: find_model(name, models, what) for name in names}
    except UnknownModelError as error:
        wrong = [name for name in dict.fromkeys(names) if isinstance(name, str) and len(meant(name, models)) != 1]
        others = ", ".join(repr(name[:LONGEST_NAME]) for name in wrong[1:][:_MOST_OTHERS])
        more = f" and {len(wrong) - 1 - _MOST_OTHERS} more" if len(wrong) - 1 > _MOST_OTHERS else ""
        raise UnknownModelError(f"{error}; unclear too: {others}{more}") if others else error from None


def place_of(name: str, models: Sequence[str], what: str) -> int:
    """The place of an LLM among all of them; see `find_model`."""
    return places(models)[find_model(name, models, what)]


def places(models: Sequence[str]) -> Mapping[str, int]:
    """LLM -> its place among all of them."""
    return _known(models).places


def meant(name: str, models: Sequence[str]) -> list[str]:
    """The LLMs that a name may stand for: one if it is clear, none if it is unknown, several if it is ambiguous."""
    if not isinstance(name, str):
        return []
    known = _known(models)
    if name in known.places:
        return [name]
    return known.index.find(name) if len(name) <= LONGEST_NAME else []


def matched(found: dict[str, str]) -> dict[str, str]:
    """Those names of a result of `find_models` that are written otherwise than the LLM's own."""
    return {name: own for name, own in found.items() if name != own}


def own_names(names: Iterable[str], models: Sequence[str], what: str) -> tuple[str, ...]:
    """The names with those that are written otherwise than a model's own replaced by these; unknown ones stay.

    Args:
        names: as written.
        models: the names of all LLMs.
        what: what holds the names, for the message.

    Raises:
        UnknownModelError: a name may be several LLMs, or two are read as the same one.
    """
    found: dict[str, str] = {}
    models = tuple(models)
    for name in names:
        own = find_model(name, models, what) if meant(name, models) else name
        if own in found:
            raise UnknownModelError(
                f"one LLM has two names, {found[own]!r} and {name!r}, and both are read as {own}; join them: --rename "
                f"{shlex.quote(f'{name}={found[own]}')} (rename={{...}})"
            )
        found[own] = name
    return tuple(found)


def normalised(name: str) -> str:
    """The name in small letters, with hyphens for dots, colons, underscores, brackets, spaces and @."""
    return re.sub(r"[.:@_ ()-]+", "-", name.lower().replace("+", "-plus")).strip("-")


# by the id of their tuple, which is kept with it, so that a name is looked up without reading all of them
_recent: dict[int, tuple[tuple[str, ...], _Known]] = {}


def _known(models: Sequence[str]) -> _Known:
    """What is known of all LLMs: at once where they are a tuple that was asked about lately."""
    if not isinstance(models, tuple):
        return _equal(tuple(models))
    found = _recent.get(id(models))
    if found is None or found[0] is not models:
        for old in list(_recent)[: max(0, len(_recent) - _KEPT + 1)]:
            _recent.pop(old, None)
        _recent[id(models)] = found = (models, _equal(models))
    return found[1]


@functools.lru_cache(maxsize=_KEPT)
def _equal(models: tuple[str, ...]) -> _Known:
    return _Known(models)


class _Known:
    """The LLMs of a model, and where each of them stands."""

    def __init__(self, models: tuple[str, ...]) -> None:
        self.models = models
        self.places = {name: place for place, name in reversed(list(enumerate(models)))}

    @functools.cached_property
    def index(self) -> _Index:
        """Made when a name is first written otherwise."""
        return _Index(self.models)


class _Index:
    """The LLMs of a model, by every form of their names."""

    def __init__(self, models: tuple[str, ...]) -> None:
        self._rules: list[dict[str, list[str]]] = [defaultdict(list) for _ in range(3)]
        self._by_words: dict[tuple[str, ...], list[tuple[str, _Parts]]] = defaultdict(list)
        for model in models:
            for rule, forms in zip(self._rules, _forms(model), strict=True):
                for form in forms:
                    rule[form].append(model)
            for parts in dict.fromkeys(map(_parts, _forms(model)[-1])):
                self._by_words[parts.words].append((model, parts))

    def find(self, name: str) -> list[str]:
        """The LLMs found by the first rule that finds any; of those of one, the name is ambiguous."""
        forms = _forms(name)
        for rule, same in zip(self._rules, forms, strict=True):
            found = dict.fromkeys(model for form in same for model in rule.get(form, ()))
            if found:
                return list(found)
        levels: dict[int, dict[str, None]] = defaultdict(dict)
        for parts in dict.fromkeys(map(_parts, forms[-1])):
            alike = self._by_words.get(parts.words, ())
            dated = parts.date not in ("", _LATEST) and any(other.date for _, other in alike)
            for model, other in alike:
                level = _difference(parts, other)
                # where dates tell versions apart, a version with a date is not the one without
                if level is not None and not (level & _DATE and dated):
                    levels[level][model] = None
                    if level & _ENDING:
                        levels[level] |= dict.fromkeys(self._rivals(parts, other))
        return list(levels[min(levels)]) if levels else []

    def _rivals(self, given: _Parts, found: _Parts) -> Iterator[str]:
        """What a name may mean as well, if an ending was left out: another version, or the variant that thinks."""
        if not given.version:
            for model, other in self._by_words[given.words]:
                if other.version not in ("", *_FIRST_VERSIONS) and not _dates_differ(given, other):
                    yield model
        if found.tuned and not given.tuned:
            thinking = tuple(sorted((*given.words, "thinking")))
            for model, other in self._by_words.get(thinking, ()):
                if not _dates_differ(given, other):
                    yield model


@dataclass(frozen=True)
class _Parts:
    """A name, taken apart: sorted words, which must agree, and what may be left out ("" where it is)."""

    words: tuple[str, ...]
    date: str
    tuned: str
    version: str
    precision: str
    preview: bool


def _forms(name: str) -> tuple[list[str], list[str], list[str]]:
    """A name for the rules 2, 3 and 4: in small letters; normalised; and with less in front and at the end."""
    small = name.lower()
    less = re.sub(r":(free|nitro|floor|batch)$", "", small)
    shorter: dict[str, None] = {}
    for start in (0, *(match.end() for match in re.finditer(r"/|(?<=[a-z])[.:](?=[a-z])", less))):
        rest = less[start:].replace("/", "-")
        shorter |= dict.fromkeys(filter(None, (normalised(rest), normalised(re.sub(r"-v\d:\d$", "", rest)))))
    return [small], [normalised(small.replace("/", "-"))], list(shorter)


def _parts(form: str) -> _Parts:
    """A normalised name in parts."""
    form = re.sub(r"-hf$", "", re.sub(_MAKERS, "", form))
    form = re.sub(r"^llama-v(?=\d)", "llama-", re.sub(r"(?<=\d)p(?=\d)", "-", form))  # Fireworks: llama-v3p1
    form = re.sub(r"(?<=\d)-0(?=-|$)", "", form)  # gemini-2.0 is gemini-2
    found = {"date": "", "latest": "", "tuned": "", "version": "", "precision": "", "preview": ""}

    def take(part: str, pattern: str) -> None:
        nonlocal form
        match = re.search(pattern, form)
        if match and match.start() and not found[part]:
            form = form[: match.start()] + form[match.end() :]
            found[part] = match[1]

    take("date", _FULL_DATE)
    before = ""
    while form != before:  # endings come in any order
        before = form
        take("date", _LAST_DATE)
        take("latest", r"-(latest)$")
        take("precision", r"-(bf16|fp16|fp8)$")
        take("version", r"-(v\d+(?:-\d+)?)$")
        take("preview", r"-(preview)$")
        if re.search(_SIZE, form):
            take("tuned", _TUNED)
    words = re.sub(r"(?<![a-z0-9])([a-z]+)(?=\d)", r"\1-", form)
    return _Parts(
        words=tuple(sorted(re.findall(r"\d+(?:-\d+)*(?=-|$)|[^-]+", words))),  # the numbers of a version stay together
        date=_date(found["date"]) or found["latest"],
        tuned=found["tuned"],
        version=found["version"],
        precision=found["precision"],
        preview=bool(found["preview"]),
    )


def _date(text: str) -> str:
    """A date as digits, the year first: 2024-08-06 and 20240806 are 20240806, 08-2024 is 202408, 08-06 is 0806."""
    month, _, year = text.partition("-")
    if month[:3] in _MONTHS:
        return f"{year}{_MONTHS.index(month[:3]) + 1:02}"
    return year + month if len(month) == 2 and len(year) == 4 else text.replace("-", "")


def _dates_agree(a: str, b: str) -> bool:
    """Whether two dates are the same: also where one has no year, or no century."""
    shorter, longer = sorted((a, b), key=len)
    return a == b or (len(shorter) >= 4 and shorter != _LATEST and longer.endswith(shorter))


def _dates_differ(a: _Parts, b: _Parts) -> bool:
    """Whether both names have a date, and these are not the same."""
    return bool(a.date and b.date) and _LATEST not in (a.date, b.date) and not _dates_agree(a.date, b.date)


def _difference(given: _Parts, known: _Parts) -> int | None:
    """How two names of the same words differ, as bits; None if they are of different LLMs."""
    same_date = _dates_agree(given.date, known.date)
    versions = {given.version, known.version}
    if (
        _dates_differ(given, known)
        or (given.preview != known.preview and not (same_date and given.date))
        or (given.precision != known.precision and given.precision and known.precision)
        or (len(versions) > 1 and not versions <= {"", *_FIRST_VERSIONS})
        or versions == set(_FIRST_VERSIONS)
    ):
        return None
    endings = (given.tuned, given.precision, given.version, given.preview)
    ending = endings != (known.tuned, known.precision, known.version, known.preview)
    return (_SAME if same_date else _DATE) | (_ENDING if ending else _SAME)
