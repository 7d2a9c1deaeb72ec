"""The Hub: fetching files of a repository into the local cache, and pushing files in a single commit.

Transient failures (the Hub is busy, a connection breaks, a file arrives damaged) are retried a few times; any other
failure is a `HubError` that names the remedy. The client checks the size of a download but not its content; this
module does, so that a damaged file never stays in the cache.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from p2l_sdk.errors import HubError
from p2l_sdk.hub.errors import HubRequest, fetch_error, is_transient, push_error, retry_after, was_not_processed

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

T = TypeVar("T")

SHARD_BYTES = 5_000_000_000  # an interrupted download resumes, but only complete files are used
_WAITS = (1.0, 2.0, 4.0)  # seconds before the second, third and fourth attempt
_LONGEST_WAIT = 60.0  # seconds, whatever the Hub asks for
_CLOCK_SLACK = 60.0  # seconds by which the clock of a file system may differ from ours
_REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_GIT_OID, _SHA256 = 40, 64  # lengths of the hashes that the cache uses as file names


@dataclass(frozen=True, kw_only=True)
class HubAccess:
    """How repositories are accessed.

    Attributes:
        token: Hub token; None uses the one from `hf auth login` or HF_TOKEN, False uses none.
        cache_dir: folder for downloads; None for the client's own (HF_HOME, HF_HUB_CACHE).
        local_files_only: use only what is in that folder, without network requests (HF_HUB_OFFLINE=1 has the same
            effect everywhere).
    """

    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False


class HubOptions(TypedDict, total=False):
    """The keyword options of every push; `HubTarget` describes them."""

    private: bool | None
    revision: str | None
    create_pr: bool
    token: str | bool | None
    commit_message: str | None


@dataclass(frozen=True, kw_only=True)
class HubTarget:
    """Where something is pushed, and how.

    Attributes:
        repo_id: "org/name".
        private: visibility of a new repository; None for the default in its owner's settings.
        revision: branch (created if it does not exist), or "refs/pr/N" to add to an open pull request.
        create_pr: open a pull request instead of writing to the main branch.
        token: Hub token with write access; None uses the one from `hf auth login` or HF_TOKEN.
        commit_message: message of the commit; None for one that says what is pushed.

    Raises:
        HubError: a pull request is to go to a branch, or the repository is no text.
    """

    repo_id: str
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    token: str | bool | None = None
    commit_message: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.repo_id, str):
            raise HubError(f"the repository is a {type(self.repo_id).__name__}; name it as text, org/name")
        if self.create_pr and self.revision is not None:
            raise HubError(
                f"a pull request goes to the main branch; leave out revision {self.revision!r}, or create_pr"
            )


def is_repo_id(name: object) -> bool:
    """Whether this has the form of a Hub repository id, "org/name"."""
    return isinstance(name, str) and _REPO_ID.fullmatch(name) is not None


def fetch(repo_id: str, patterns: Sequence[str], revision: str | None = None, access: HubAccess | None = None) -> Path:
    """Fetch the matching files of a model repository and return their folder in the local cache.

    Cached files are not fetched again, and files in subfolders are left out. The folder is named after the commit.

    Raises:
        HubError: the repository or revision does not exist, is gated or not cached while offline; or the Hub cannot be
            reached or is busy; or the files keep arriving damaged.
    """
    from huggingface_hub import snapshot_download

    access = access or HubAccess()
    started = time.time()

    def download() -> Path:
        folder = Path(
            snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],
                token=access.token,
                cache_dir=access.cache_dir,
                local_files_only=access.local_files_only,
            )
        )
        _remove_damaged(folder, patterns, started - _CLOCK_SLACK)
        return folder

    try:
        return _with_retries(download, lambda error: isinstance(error, _DamagedError) or is_transient(error))
    except _DamagedError as error:
        raise HubError(
            f"{error} of {repo_id!r} arrived damaged again and again, and was not kept; try another network, or later"
        ) from None
    except Exception as error:  # the client raises errors of many kinds
        request = HubRequest(repo_id=repo_id, revision=revision, local_files_only=access.local_files_only)
        raise fetch_error(error, request) from error


def push(
    files: Mapping[str, Path | bytes],
    target: HubTarget,
    *,
    message: str,
    kind: str = "model",
    stale: Sequence[str] = (),
) -> CommitInfo:
    """Push files in one commit, creating the repository and the branch if they do not exist.

    Args:
        files: path in the repository -> local file, or content.
        target: the repository, and how it is pushed to.
        message: commit message if the target has none.
        kind: "model", "dataset" or "space".
        stale: patterns (`*` does not match a slash) of files that the same commit removes, unless they are in `files`.

    Returns:
        The client's `CommitInfo`: the commit's address (a `str`), with `oid`, `pr_url` and `pr_revision`.

    Raises:
        HubError: the Hub refused or cannot be reached, or `private` was asked for and the existing repository is
            public. Nothing was committed.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

    repo_id, revision = target.repo_id, target.revision
    api, space_sdk = HfApi(token=target.token), "gradio" if kind == "space" else None

    def prepare() -> list[str]:
        api.create_repo(repo_id, repo_type=kind, private=target.private, exist_ok=True, space_sdk=space_sdk)
        if target.private and not api.repo_info(repo_id, repo_type=kind).private:
            raise HubError(f"{repo_id!r} exists and is public; make it private in its settings, or push elsewhere")
        if revision is not None and not revision.startswith("refs/") and revision != "main":
            api.create_branch(repo_id, repo_type=kind, branch=revision, exist_ok=True)
        return api.list_repo_files(repo_id, repo_type=kind, revision=revision)

    def commit() -> CommitInfo:
        gone = [path for path in there if path not in files and any(_matches(path, pattern) for pattern in stale)]
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationDelete(path) for path in gone),
            *(CommitOperationAdd(path, content) for path, content in files.items()),
        ]
        return api.create_commit(  # not `upload_folder`, which may split a folder into several commits
            repo_id,
            operations,
            repo_type=kind,
            revision=revision,
            create_pr=target.create_pr,
            commit_message=target.commit_message or message,
        )

    try:
        there = _with_retries(prepare, is_transient)
        # repeating a commit whose answer was lost does no harm, but a pull request would be opened twice
        return _with_retries(commit, was_not_processed if target.create_pr else is_transient)
    except HubError:
        raise
    except Exception as error:  # the client raises errors of many kinds
        raise push_error(error, HubRequest(repo_id=repo_id, kind=kind, revision=revision)) from error


def _matches(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


def _with_retries(action: Callable[[], T], worth_retrying: Callable[[Exception], bool]) -> T:
    """The result of the action, attempted again after errors that are worth it."""
    for wait in _WAITS:
        try:
            return action()
        except Exception as error:
            if not worth_retrying(error):
                raise
            time.sleep(max(wait, min(retry_after(error), _LONGEST_WAIT)))
    return action()


class _DamagedError(Exception):
    """The content of some files does not match the hash that is their name in the cache."""


def _remove_damaged(folder: Path, patterns: Sequence[str], since: float) -> None:
    """Delete damaged files fetched since then, and raise `_DamagedError` if there are any. A cache without symbolic
    links (on some Windows systems) holds no hashes, so nothing is checked there."""
    damaged = []
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_symlink()}):
        content = file.parent / file.readlink()
        if file.stat().st_mtime >= since and not _is_whole(content, content.name):
            file.unlink()
            content.unlink()
            damaged.append(file.name)
    if damaged:
        raise _DamagedError(", ".join(damaged))


def _is_whole(file: Path, name: str) -> bool:
    if len(name) not in (_GIT_OID, _SHA256):
        return True
    git = b"blob %d\0" % file.stat().st_size
    digest: Any = hashlib.sha256() if len(name) == _SHA256 else hashlib.sha1(git, usedforsecurity=False)
    with file.open("rb") as content:
        while part := content.read(1 << 22):
            digest.update(part)
    return digest.hexdigest() == name
