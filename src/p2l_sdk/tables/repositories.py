"""Folders and Hub repositories of data files: `datasets` says which files are which split, our own readers read them.

So the limits of files hold for these too: nothing is unpacked or converted as a whole, and no library guesses at what a
stranger uploaded.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk.errors import MissingExtraError, TableError
from p2l_sdk.hub.errors import HubRequest, fetch_error
from p2l_sdk.tables.files import KINDS, kind_of

_CARD = "README.md"  # it may say which files are which split
_SHOWN = 3  # files in a message
_LONGEST = 300  # characters of another library's message


@dataclass(frozen=True)
class Files:
    """The files of one split.

    Attributes:
        names: where they are: paths, or names in a repository.
        fetch: brings them here; their paths.
        split: its name.
    """

    names: tuple[str, ...]
    fetch: Callable[[], list[Path]]
    split: str | None = None


def files_of_folder(folder: Path) -> Mapping[str, Files]:
    """The data files in a folder, by split.

    Raises:
        TableError: it holds none, or others than tables.
        MissingExtraError: datasets is not installed.
    """
    what = f"the folder {str(folder)!r}"
    try:
        named = _splits(str(folder), None)
    except Exception as error:  # `datasets` raises errors of many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TableError(f"{what} cannot be loaded: {reason[:_LONGEST]}") from error
    _require_tables(named, what)
    inside = os.path.abspath(folder)
    for name in (name for names in named.values() for name in names):
        if os.path.commonpath([inside, os.path.abspath(name)]) != inside:
            raise TableError(f"{what} cannot be loaded: its card names {name!r}, which is not in it")
    return {split: Files(names, functools.partial(_paths, names)) for split, names in named.items()}


def files_of_repository(name: str, revision: str | None) -> Mapping[str, Files]:
    """The data files of a data set on the Hub, by split; offline, those that were fetched before.

    Raises:
        TableError: it cannot be fetched (the message names the remedy), holds no data files, or others than tables.
        MissingExtraError: datasets is not installed.
    """
    if _datasets().config.HF_HUB_OFFLINE:  # which HF_DATASETS_OFFLINE sets too
        return files_of_folder(Path(_fetched(name, revision, lambda hub: _cached(hub, name, revision))))
    named = _fetched(name, revision, lambda hub: _named_in(hub, name, revision))
    _require_tables(named, f"the data set {name!r}")
    return {split: Files(names, functools.partial(_fetch, name, revision, names)) for split, names in named.items()}


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("a folder or Hub data set", "datasets", "train") from None
    return datasets


def _splits(name: str, revision: str | None) -> dict[str, tuple[str, ...]]:
    """Split -> its files, as `datasets` finds them by their names and by the card."""
    builder = _datasets().load_dataset_builder(name, revision=revision)
    return {str(split): tuple(map(str, files)) for split, files in (builder.config.data_files or {}).items()}


def _paths(names: tuple[str, ...]) -> list[Path]:
    return [Path(name) for name in names]


def _require_tables(splits: Mapping[str, tuple[str, ...]], what: str) -> None:
    if not splits:
        raise TableError(f"{what} holds no data files; known: {KINDS}")
    others = [Path(name).name for names in splits.values() for name in names if kind_of(Path(name)) is None]
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise TableError(
            f"{what} holds {', '.join(map(repr, others[:_SHOWN]))}{more}, of no known kind; known: {KINDS}"
        )


# --- the Hub ---------------------------------------------------------------------------------------------------------


def _named_in(hub: Any, name: str, revision: str | None) -> dict[str, tuple[str, ...]]:
    files = hub.HfFileSystem()

    def own(place: str) -> str:
        found = files.resolve_path(place)
        if found.repo_id != name or found.repo_type != "dataset":
            raise TableError(f"the data set {name!r} names files of another repository, {found.repo_id!r}")
        return str(found.path_in_repo)

    return {split: tuple(map(own, places)) for split, places in _splits(name, revision).items()}


def _fetch(name: str, revision: str | None, names: tuple[str, ...]) -> list[Path]:
    def fetch(hub: Any) -> list[Path]:
        with contextlib.suppress(hub.errors.EntryNotFoundError):
            hub.hf_hub_download(name, _CARD, repo_type="dataset", revision=revision)
        return [Path(hub.hf_hub_download(name, file, repo_type="dataset", revision=revision)) for file in names]

    found: list[Path] = _fetched(name, revision, fetch)
    return found


def _cached(hub: Any, name: str, revision: str | None) -> str:
    return str(hub.snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))


def _fetched(name: str, revision: str | None, fetch: Callable[[Any], Any]) -> Any:
    """What `fetch` makes of the Hub's client; its errors with their remedies."""
    import huggingface_hub

    try:
        return fetch(huggingface_hub)
    except TableError:
        raise
    except Exception as error:  # `datasets` raises errors of many kinds
        request = HubRequest(repo_id=name, kind="dataset", revision=revision)
        raise TableError(str(fetch_error(_hub_error(name, revision) or error, request))) from error


def _hub_error(name: str, revision: str | None) -> Exception | None:
    """The Hub's own error for a data set that could not be loaded, which `datasets` does not always pass on; None if
    the repository is accessible."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    if _datasets().config.HF_HUB_OFFLINE:
        return OfflineModeIsEnabled()
    try:
        HfApi().auth_check(name, repo_type="dataset")
        HfApi().dataset_info(name, revision=revision)
    except Exception as error:
        return error
    return None
