"""Translates errors of the Hub's client into messages that name the remedy, and tells which of them are transient.

The client wraps errors in others (a server error in "not found in the cache", for example), so the whole chain of
causes is examined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from p2l_sdk.errors import HubError

_BUSY = {408, 429, 500, 502, 503, 504}
_LOGIN = "log in (hf auth login) or pass token=..."


@dataclass(frozen=True, kw_only=True)
class HubRequest:
    """What was requested from the Hub, for error messages.

    Attributes:
        repo_id: "org/name".
        kind: "model", "dataset" or "space".
        revision: branch, tag or commit.
        local_files_only: whether the caller ruled out network requests.
    """

    repo_id: str
    kind: str = "model"
    revision: str | None = None
    local_files_only: bool = False

    @property
    def repository(self) -> str:
        """Description of the repository, for messages."""
        kind = {"model": "", "dataset": " data set"}.get(self.kind, f" {self.kind}")
        return f"the Hub{kind} repository {self.repo_id!r}"

    @property
    def address(self) -> str:
        """Address of the repository's page."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'' if self.kind == 'model' else self.kind + 's/'}{self.repo_id}"


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a little later: the Hub was busy, or the connection broke. A connection that
    could not even be established does not count, so that nobody who is offline has to wait."""
    from huggingface_hub import errors

    for cause in _causes(error):
        if isinstance(cause, errors.HfHubHTTPError):
            return _status(cause) in _BUSY
        if isinstance(cause, _transport_error()):
            return not type(cause).__name__.startswith(("Connect", "Proxy", "Unsupported"))
    return False


def was_not_processed(error: Exception) -> bool:
    """Whether the Hub certainly did nothing, because it was too busy to process the request."""
    return any(_status(cause) in (429, 503) for cause in _causes(error))


def retry_after(error: Exception) -> float:
    """Seconds that the Hub asked to wait (`Retry-After`); 0 if it did not ask."""
    for cause in _causes(error):
        value = getattr(getattr(cause, "response", None), "headers", {}).get("Retry-After", "")
        if value.isdigit():
            return float(value)
    return 0.0


def fetch_error(error: Exception, request: HubRequest) -> HubError:
    """The error to raise if a repository could not be fetched."""
    from huggingface_hub import constants, errors

    found = next((cause for cause in _causes(error) if isinstance(cause, errors.HfHubHTTPError)), None)
    cached = next((cause for cause in _causes(error) if isinstance(cause, errors.LocalEntryNotFoundError)), None)
    if found is not None:
        return _refusal(found, request) or HubError(f"{request.repository} could not be fetched: {_reason(error)}")
    if any(isinstance(cause, _transport_error()) for cause in _causes(error)):
        text = f"the Hub ({constants.ENDPOINT}) cannot be reached"
        text += f", and {request.repository} is not in the cache" if cached is not None else ""
        return HubError(f"{text}: {_transport_reason(error)}; check the connection, or the address in HF_ENDPOINT")
    if cached is not None or any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in _causes(error)):
        part = ", or only in part," if type(cached).__name__ == "IncompleteSnapshotError" else ""
        why = "local_files_only" if request.local_files_only else "HF_HUB_OFFLINE"
        kind = "" if request.kind == "model" else f" --repo-type {request.kind}"
        return HubError(
            f"{request.repository} is not in the cache{part} and the Hub was not asked ({why} is set); fetch it once "
            f"while online, without {why}, or with: hf download {request.repo_id}{kind}"
        )
    return HubError(f"{request.repository} could not be fetched: {_reason(error)}")


def push_error(error: Exception, request: HubRequest) -> HubError:
    """The error to raise if a push failed; nothing was committed."""
    from huggingface_hub import constants, errors

    found = next((cause for cause in _causes(error) if isinstance(cause, errors.HfHubHTTPError)), None)
    if found is not None and not isinstance(found, errors.RevisionNotFoundError):
        status = _status(found)
        if status == 403 and not isinstance(found, errors.GatedRepoError):
            return HubError(
                f"your token may not write to {request.repository}: take one with the role 'write' for "
                f"{request.repo_id.split('/')[0]!r}, or propose the change with create_pr=True (--create-pr)"
            )
        if status == 401:
            return HubError(f"{request.repository} takes pushes of logged-in users only: {_LOGIN}")
        if status in _BUSY:
            return HubError(f"nothing was pushed: {_busy(status)}")
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in _causes(error)):
        return HubError(f"{request.repository} cannot be pushed to offline; unset HF_HUB_OFFLINE")
    if found is None and any(isinstance(cause, _transport_error()) for cause in _causes(error)):
        return HubError(
            f"nothing was pushed: the Hub ({constants.ENDPOINT}) cannot be reached: {_transport_reason(error)}; check "
            "the connection, or the address in HF_ENDPOINT"
        )
    return HubError(f"{request.repository} could not be pushed to: {_reason(error)}")


def _refusal(found: Exception, request: HubRequest) -> HubError | None:
    """The error that the Hub's answer stands for; None if it is not a special case."""
    from huggingface_hub import errors

    if isinstance(found, errors.GatedRepoError):
        return HubError(
            f"{request.repository} is gated: ask for access on its page {request.address}, then log in with the same "
            "account (hf auth login) or pass its token=..."
        )
    if isinstance(found, errors.RepositoryNotFoundError):
        return HubError(
            f"{request.repo_id!r} is no folder here, and there is no such repository on the Hub, or it is private; "
            f"check the name, and if it is private {_LOGIN}"
        )
    if isinstance(found, errors.RevisionNotFoundError):
        return HubError(
            f"{request.repository} has no revision {request.revision!r}; name a branch, tag or commit of it, or none "
            "for its main branch"
        )
    status = _status(found)
    if status == 401:
        return HubError(f"the Hub does not accept your token: {_LOGIN}")
    if status in _BUSY:
        return HubError(f"{request.repository} could not be fetched, and is not in the cache: {_busy(status)}")
    return None


def _busy(status: int | None) -> str:
    if status == 429:
        return "the Hub answers 429, too many requests; wait some minutes, or log in (hf auth login) for a higher limit"
    return f"the Hub answers {status}, it has a problem of its own; try again later"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _transport_reason(error: Exception) -> str:
    return _reason(next(cause for cause in _causes(error) if isinstance(cause, _transport_error())))


def _transport_error() -> type[BaseException]:
    """Base class of the errors raised by the client's HTTP library: httpx, or its successor."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__mro__[1]


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__
