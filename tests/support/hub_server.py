"""A local in-memory Hub: the part of the Hub's HTTP API that the real `huggingface_hub` client uses.

    with LocalHub() as hub:
        hub.users["hf_secret"] = "org"            # token -> the namespace that it can write to
        ... HF_ENDPOINT=hub.url in a subprocess ...
        hub.fail("GET /cdn/", "drop")             # the next download breaks off midway
        hub.repo("org/name").files()              # what was pushed

Large files are redirected to a second port under another name, as the Hub redirects to its CDN: a token must never
arrive there. Xet is not supported: clients with hf_xet need HF_HUB_DISABLE_XET=1, because they would use nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml
from hub_repos import LFS_SUFFIXES, MAIN, Fault, File, RefusedError, Repo, Request


class LocalHub:
    """The server; `url` is its endpoint. All its state can be inspected and changed while it runs."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.users: dict[str, str] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.retry_after: int | None = None  # seconds, sent with a 429
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        port, cdn_port = (server.server_address[1] for server in self._servers)
        self.url, self.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{cdn_port}"

    def __enter__(self) -> LocalHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def repo(self, name: str, kind: str = "models") -> Repo:
        return self.repos[kind, name]

    def create(self, name: str, kind: str = "models", private: bool = False) -> Repo:
        """Create a repository with the one file that the Hub adds."""
        repo = self.repos[kind, name] = Repo(kind, name, private)
        repo.commit(MAIN, "", {".gitattributes": File(b"*.safetensors filter=lfs\n", False)}, "initial commit")
        return repo

    def add(self, name: str, files: dict[str, bytes], kind: str = "models") -> Repo:
        """Create a repository with these files, as if someone had pushed them."""
        repo = self.repos.get((kind, name)) or self.create(name, kind)
        made = {path: File(content, path.endswith(LFS_SUFFIXES)) for path, content in files.items()}
        repo.commit(MAIN, repo.refs[MAIN], {**repo.commits[repo.refs[MAIN]], **made}, "add")
        return repo

    def fail(self, pattern: str, how: int | str, times: int = 1) -> Fault:
        """Schedule a fault for requests whose "METHOD /path" matches the regular expression."""
        self.faults.append(Fault(pattern, how, times))
        return self.faults[-1]

    def asked(self, pattern: str) -> list[Request]:
        """The matching requests so far."""
        return [request for request in self.requests if re.search(pattern, str(request))]

    def take_fault(self, request: Request) -> int | str | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and re.search(fault.pattern, str(request)):
                    fault.times -= 1
                    return fault.how
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"
    fault: int | str | None = None

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Log nothing to the terminal; `LocalHub.requests` is the log."""

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        path, self.query = urllib.parse.unquote(parts.path), dict(urllib.parse.parse_qsl(parts.query))
        authorization = self.headers.get("Authorization")
        token = authorization.removeprefix("Bearer ") if authorization else None
        self.request_seen = Request(self.command, path, token, self.headers.get("Range"))
        self.hub.requests.append(self.request_seen)
        self.body = self._read_body()
        self.fault = self.hub.take_fault(self.request_seen)
        if self.fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()  # with linger 0: a reset
            raise ConnectionError
        try:
            if isinstance(self.fault, int):
                wait = {"Retry-After": str(self.hub.retry_after)} if self.fault == 429 and self.hub.retry_after else {}
                raise RefusedError(self.fault, "", "arranged by the test", **wait)
            if token is not None and token not in self.hub.users:
                raise RefusedError(401, "", "Invalid credentials in Authorization header")
            self.user = self.hub.users.get(token) if token else None
            with self.hub.lock:
                self._answer(path)
        except RefusedError as error:
            self._send(error.status, {"error": error.message}, **error.headers)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self, path: str) -> None:
        for method, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                return action(self, **match.groupdict())
        raise RefusedError(404, "", f"the local Hub does not know {self.command} {path}")

    # --- what it answers ---

    def whoami(self) -> None:
        if self.user is None:
            raise RefusedError(401, "", "Invalid username or password.")
        self._send(200, {"type": "user", "name": self.user, "orgs": []})

    def create_repo(self) -> None:
        asked = json.loads(self.body)
        owner = asked.get("organization") or self.user
        kind, name = f"{asked.get('type') or 'model'}s", f"{owner}/{asked['name']}"
        if self.user is None:
            raise RefusedError(401, "", "Invalid username or password.")
        if self.user != owner:
            raise RefusedError(403, "", f"You don't have the rights to create a repo under {owner!r}")
        if (kind, name) in self.hub.repos:
            return self._send(409, {"error": "You already created this repo", "url": self._address(kind, name)})
        self.hub.create(name, kind, asked.get("visibility") == "private" or bool(asked.get("private")))
        self._send(200, {"url": self._address(kind, name)})

    def validate_card(self) -> None:
        """Check that the card's metadata is YAML and has a structure that the Hub accepts."""
        content = json.loads(self.body)["content"]
        found = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
        errors, warnings = [], []
        try:
            data = yaml.safe_load(found[1]) if found else None
            for key, kinds in (("tags", list), ("license", str), ("pipeline_tag", str), ("model-index", list)):
                if data is not None and key in data and not isinstance(data[key], kinds):
                    errors.append({"message": f'"{key}" must be a {kinds.__name__}'})
            if data is None:
                warnings.append({"message": "empty or missing yaml metadata in repo card"})
        except yaml.YAMLError as error:
            errors.append({"message": str(error)})
        self._send(400 if errors else 200, {"errors": errors, "warnings": warnings})

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        repo = self._repo(kind, name)
        sha = self._commit(repo, revision or MAIN)
        known = {"private": repo.private, "gated": "manual" if repo.gated else False, "tags": [], "downloads": 0}
        times = {"lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z"}
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        self._send(200, {"_id": "0", "id": name, "sha": sha, "likes": 0, "siblings": siblings, **known, **times})

    def auth_check(self, kind: str, name: str) -> None:
        self._require_access(self._repo(kind, name))
        self._send(200, {})

    def refs(self, kind: str, name: str) -> None:
        branches = [
            {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": sha}
            for ref, sha in self._repo(kind, name).refs.items()
            if not ref.startswith("refs/")
        ]
        self._send(200, {"branches": branches, "tags": [], "converts": []})

    def tree(self, kind: str, name: str, revision: str, folder: str | None = None) -> None:
        repo = self._repo(kind, name)
        files = repo.commits[self._commit(repo, revision)]
        prefix = f"{folder}/" if folder else ""
        inside = {path: file for path, file in files.items() if path.startswith(prefix)}
        if prefix and not inside:
            raise RefusedError(404, "EntryNotFound", f"{folder} does not exist")
        if self.query.get("recursive", "").lower() == "true":
            return self._send(200, [file.entry(path) for path, file in inside.items()])
        here = [file.entry(path) for path, file in inside.items() if "/" not in path[len(prefix) :]]
        folders = {prefix + path[len(prefix) :].split("/")[0] for path in inside if "/" in path[len(prefix) :]}
        self._send(200, [{"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders)] + here)

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        repo = self._repo(kind, name)
        files = repo.commits[self._commit(repo, revision)]
        asked = self._fields().get("paths", [])
        entries = [files[path].entry(path) for path in asked if path in files]
        for path in asked:
            if any(other.startswith(f"{path}/") for other in files):
                entries.append({"type": "directory", "path": path, "oid": "0" * 40})
        self._send(200, entries)

    def create_branch(self, kind: str, name: str, branch: str) -> None:
        repo = self._repo(kind, name, write=True)
        if branch in repo.refs:
            raise RefusedError(409, "", "Reference already exists")
        repo.refs[branch] = self._commit(repo, json.loads(self.body or b"{}").get("startingPoint", MAIN))
        self._send(200, {})

    def preupload(self, kind: str, name: str, revision: str) -> None:
        pull_request = "create_pr" in self.query
        repo = self._repo(kind, name, write=not pull_request, member=True)
        files = repo.commits[self._commit(repo, revision)]
        modes = [
            {
                "path": asked["path"],
                "uploadMode": "lfs" if asked["path"].endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": False,
                "oid": files[asked["path"]].oid if asked["path"] in files else None,
            }
            for asked in json.loads(self.body)["files"]
        ]
        self._send(200, {"files": modes})

    def lfs_batch(self, kind: str | None, name: str) -> None:
        self._repo(kind or "models", name, member=True)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            known = asked["oid"] in self.hub.objects
            upload = {"upload": {"href": f"{self.hub.cdn}/upload/{asked['oid']}"}}
            verify = {"verify": {"href": f"{self.hub.url}/verify/{asked['oid']}"}}
            objects.append({**asked, **({} if known else {"actions": {**upload, **verify}})})
        self._send(200, {"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusedError(422, "", "the content has another hash")
        self.hub.objects[oid] = self.body
        self._send(200, {})

    def lfs_verify(self, oid: str) -> None:
        self._send(200 if oid in self.hub.objects else 404, {})

    def commit(self, kind: str, name: str, revision: str) -> None:
        pull_request = "create_pr" in self.query
        repo = self._repo(kind, name, write=not pull_request, member=True)
        parent = self._commit(repo, revision)
        files, title = dict(repo.commits[parent]), ""
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                title = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise RefusedError(400, "", f"the LFS object of {value['path']} was never uploaded")
                files[value["path"]] = File(self.hub.objects[value["oid"]], True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        number = sum(ref.startswith("refs/pr/") for ref in repo.refs) + 1
        sha = repo.commit(f"refs/pr/{number}" if pull_request else revision, parent, files, title)
        address = self._address(kind, name)
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{address}/commit/{sha}"}
        self._send(200, {**answer, **({"pullRequestUrl": f"{address}/discussions/{number}"} if pull_request else {})})

    def resolve(self, kind: str | None, name: str, revision: str, file: str) -> None:
        repo = self._repo(kind or "models", name)
        sha = self._commit(repo, revision)
        self._require_access(repo)
        found = repo.commits[sha].get(file)
        if found is None:
            raise RefusedError(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "ETag": f'"{found.oid}"'}
        if found.lfs:
            self.hub.objects[found.sha256] = found.content
            headers |= {"X-Linked-Etag": f'"{found.oid}"', "X-Linked-Size": str(len(found.content))}
            return self._send(302, b"", Location=f"{self.hub.cdn}/cdn/{found.sha256}", **headers)
        self._send(200, found.content, **headers)

    def download(self, oid: str) -> None:
        content, status, headers = self.hub.objects[oid], 200, {"Accept-Ranges": "bytes", "ETag": f'"{oid}"'}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        self._send(status, content, **headers)

    # --- inside ---

    def _repo(self, kind: str, name: str, write: bool = False, member: bool = False) -> Repo:
        """The repository, if the user can read it and, as required, is logged in (`member`) or may write (`write`)."""
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and self.user != repo.owner):
            raise RefusedError(404 if self.user else 401, "RepoNotFound", "Repository not found")
        if (write or member) and self.user is None:
            raise RefusedError(401, "", "Invalid username or password.")
        if write and self.user != repo.owner:
            raise RefusedError(403, "", f"Forbidden: pass create_pr=1 to open a pull request on {name}")
        return repo

    def _require_access(self, repo: Repo) -> None:
        if repo.gated and self.user != repo.owner:
            message = f"Access to {repo.name} is restricted and you are not in the authorized list."
            raise RefusedError(403 if self.user else 401, "GatedRepo", message)

    def _commit(self, repo: Repo, revision: str) -> str:
        sha = repo.resolve(revision)
        if sha is None:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _address(self, kind: str, name: str) -> str:
        return f"{self.hub.url}/{name}" if kind == "models" else f"{self.hub.url}/{kind}/{name}"

    def _fields(self) -> dict[str, list[str]]:
        if "json" in self.headers.get("Content-Type", ""):
            asked = json.loads(self.body)
            return {**asked, "paths": [asked["paths"]] if isinstance(asked.get("paths"), str) else asked["paths"]}
        return urllib.parse.parse_qs(self.body.decode())

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, body: Any, **headers: str) -> None:
        self.request_seen.status = status
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if self.fault == "drop":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.wfile.write(content)


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create_repo),
    ("POST", r"/api/validate-yaml", _Handler.validate_card),
    ("GET", _API, _Handler.info),
    ("GET", rf"{_API}/revision/{_REVISION}", _Handler.info),
    ("GET", rf"{_API}/auth-check", _Handler.auth_check),
    ("GET", rf"{_API}/refs", _Handler.refs),
    ("GET", rf"{_API}/tree/{_REVISION}(/(?P<folder>.+))?", _Handler.tree),
    ("POST", rf"{_API}/paths-info/{_REVISION}", _Handler.paths_info),
    ("POST", rf"{_API}/branch/(?P<branch>.+)", _Handler.create_branch),
    ("POST", rf"{_API}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", rf"{_API}/commit/{_REVISION}", _Handler.commit),
    (
        "POST",
        r"/((?P<kind>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch",
        _Handler.lfs_batch,
    ),
    ("PUT", r"/upload/(?P<oid>\w+)", _Handler.lfs_upload),
    ("POST", r"/verify/(?P<oid>\w+)", _Handler.lfs_verify),
    (
        "GET HEAD",
        rf"/((?P<kind>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)/resolve/{_REVISION}/(?P<file>.+)",
        _Handler.resolve,
    ),
    ("GET HEAD", r"/cdn/(?P<oid>\w+)", _Handler.download),
]
