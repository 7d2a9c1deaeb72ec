"""What the local Hub holds and sees: repositories with their commits, requests, and faults that a test arranges."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

LFS_SUFFIXES = (".safetensors", ".parquet", ".bin", ".png")
MAIN = "main"


@dataclass(frozen=True)
class File:
    """A file in a commit; large files are stored as LFS objects."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """The id that a client compares with its own copy and uses as the file's name in its cache."""
        return self.sha256 if self.lfs else hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """Its entry in listings."""
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid[:40]}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return entry


@dataclass
class Repo:
    """A repository: refs point to commits, and a commit is the complete set of its files."""

    kind: str
    name: str
    private: bool = False
    gated: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    def commit(self, ref: str, parent: str, files: dict[str, File], message: str) -> str:
        text = json.dumps([parent, len(self.messages), {path: file.oid for path, file in files.items()}])
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha], self.refs[ref] = files, sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, pull request or commit id refers to."""
        return self.refs.get(revision) or (revision if revision in self.commits else None)

    def files(self, revision: str = MAIN) -> dict[str, bytes]:
        return {path: file.content for path, file in self.commits[self.refs[revision]].items()}


@dataclass
class Fault:
    """A failure of the next `times` matching requests: a status, "drop" (the body breaks off midway), "reset" (no
    response at all), "corrupt" (a wrong byte, the right length)."""

    pattern: str
    how: int | str
    times: int


@dataclass
class Request:
    method: str
    path: str
    token: str | None
    range: str | None
    status: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class RefusedError(Exception):
    """An error response, with the Hub's own error code."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message or code
        self.headers = {"X-Error-Code": code, "X-Error-Message": self.message, **headers}
