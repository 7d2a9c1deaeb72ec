"""Faults of the Hub while pulling and pushing: retried until they pass, or a clear error and an intact cache."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hub_client import GUEST, LOAD, OWNER, PROMPTS, assert_cache_is_whole, load

BARE_PUSH = """
from p2l_sdk.hub.access import HubTarget, push
target = HubTarget(repo_id=repo, **options)
commit = push({"model.safetensors": repo.encode(), "README.md": b"# x"}, target, message="one")
result = vars(commit)
"""


@pytest.fixture
def loader(processes):
    return processes["loader"]


@pytest.fixture
def new(hub):
    """The name of a new repository."""
    return f"org/pushed-{len(hub.repos)}"


@pytest.fixture
def bare_push(processes):
    """bare_push(repo, **options): pushes two files that are not a model."""
    return lambda repo, **options: processes["pusher"](BARE_PUSH, repo=repo, options={"token": OWNER, **options})


# --- faults while pulling ------------------------------------------------------------------------------------------

BLOB, INFO, TREE, HEAD, FILE = (
    "GET /cdn/",
    "GET /api/.*/revision/",
    "GET /api/.*/tree/",
    "HEAD",
    "GET /org/.*config.json",
)


@pytest.mark.parametrize(
    ("where", "how", "times"),
    [
        (INFO, 429, 1), (INFO, 500, 3), (INFO, "reset", 1), (TREE, 503, 2), (HEAD, 429, 2), (HEAD, 500, 1),
        (BLOB, 429, 2), (BLOB, 500, 2), (BLOB, "reset", 2), (BLOB, "drop", 3), (BLOB, "corrupt", 2),
        (FILE, "corrupt", 1),
    ],
)  # fmt: skip
def test_a_fault_that_passes_is_waited_for(where, how, times, hub, repository, loader, tmp_path):
    name, coefs = repository
    fault = hub.fail(where, how, times)
    np.testing.assert_allclose(load(loader, name, cache_dir=str(tmp_path)), coefs, atol=1e-6)
    assert fault.times == 0
    assert_cache_is_whole(tmp_path)


def test_a_broken_download_is_taken_up_where_it_broke(hub, repository, loader, tmp_path):
    name, coefs = repository
    hub.fail(BLOB, "drop")
    hub.requests.clear()
    small_chunks = "from huggingface_hub import constants\nconstants.DOWNLOAD_CHUNK_SIZE = 100\n"
    request = {"repo": name, "prompts": PROMPTS, "options": {"cache_dir": str(tmp_path)}}
    np.testing.assert_allclose(loader(small_chunks + LOAD, **request), coefs, atol=1e-6)
    first, second = (request.range for request in hub.asked(BLOB))
    assert first is None
    assert int(re.fullmatch(r"bytes=(\d+)-", second)[1]) > 1000


def test_the_hub_says_for_how_long_to_wait(hub, repository, loader, tmp_path):
    name, _ = repository
    hub.fail(INFO, 429, 2)
    hub.retry_after = 9
    request = {"repo": name, "prompts": PROMPTS, "options": {"cache_dir": str(tmp_path)}}
    assert loader(LOAD + "result = list(naps)", **request) == [9.0, 9.0]


@pytest.mark.parametrize(
    ("where", "how", "message"),
    [
        (INFO, 429, "the Hub answers 429, too many requests; wait some minutes, or log in"),
        (INFO, 500, "could not be fetched, and is not in the cache: the Hub answers 500, it has a problem of its own"),
        (HEAD, 502, "the Hub answers 502, it has a problem of its own; try again later"),
        (BLOB, 500, "the Hub answers 500"),
        (BLOB, "reset", "cannot be reached: "),
        (BLOB, "drop", "cannot be reached: "),
        (BLOB, "corrupt", "model.safetensors of '{name}' arrived damaged again and again, and was not kept"),
    ],
)
def test_a_fault_that_stays_is_a_clear_error_and_leaves_a_whole_cache(
    where, how, message, hub, repository, loader, tmp_path
):
    name, coefs = repository
    hub.fail(where, how, 10**6)
    request = {"repo": name, "prompts": PROMPTS, "options": {"cache_dir": str(tmp_path)}}
    refusal = loader.refused(LOAD, **request)
    assert refusal.startswith("HubError: ")
    assert message.format(name=name) in refusal
    assert_cache_is_whole(tmp_path)
    local = {**request["options"], "local_files_only": True}
    assert "is not in the cache" in loader.refused(LOAD, **{**request, "options": local})  # no partial model
    hub.faults.clear()
    np.testing.assert_allclose(load(loader, name, cache_dir=str(tmp_path)), coefs, atol=1e-6)


def test_what_is_cached_is_used_while_the_hub_is_down(hub, repository, loader, tmp_path):
    name, coefs = repository
    load(loader, name, cache_dir=str(tmp_path))
    hub.fail(".", 500, 10**6)
    np.testing.assert_allclose(load(loader, name, cache_dir=str(tmp_path)), coefs, atol=1e-6)


# --- faults while pushing ------------------------------------------------------------------------------------------

STEPS = {
    "create": "POST /api/repos/create", "card": "POST /api/validate-yaml", "preupload": "POST /api/.*/preupload/",
    "batch": "POST .*/objects/batch", "upload": "PUT /upload/", "commit": "POST /api/.*/commit/",
}  # fmt: skip


@pytest.mark.parametrize(("step", "how"), list(itertools.product(STEPS, [429, 500, "reset"])))
def test_a_push_outlasts_a_fault_that_passes(step, how, hub, processes, bare_push, new):
    fault = hub.fail(STEPS[step], how)
    bare_push(new)
    assert fault.times == 0
    assert hub.repo(new).messages == ["initial commit", "one"]
    assert hub.repo(new).files()["model.safetensors"] == new.encode()


def test_a_commit_whose_answer_is_lost_is_made_once(hub, bare_push, new):
    fault = hub.fail(STEPS["commit"], "drop")
    bare_push(new)
    assert fault.times == 0
    assert hub.repo(new).messages == ["initial commit", "one"]


def test_a_pull_request_whose_answer_is_lost_is_opened_once(hub, processes, bare_push, new):
    hub.create(new)
    hub.fail(STEPS["commit"], "drop")
    assert "HubError: " in processes["pusher"].refused(BARE_PUSH, repo=new, options={"create_pr": True, "token": GUEST})
    assert sorted(hub.repo(new).refs) == ["main", "refs/pr/1"]
    hub.fail(STEPS["commit"], 429)  # a 429 was certainly not processed
    assert bare_push(new, create_pr=True, token=GUEST)["pr_revision"] == "refs/pr/2"


@pytest.mark.parametrize(
    ("step", "how", "options", "message"),
    [
        ("commit", 500, {}, "nothing was pushed: the Hub answers 500, it has a problem of its own; try again later"),
        ("upload", 429, {}, "nothing was pushed: the Hub answers 429, too many requests"),
        ("batch", "reset", {}, "nothing was pushed: the Hub ({url}) cannot be reached"),
        (None, None, {"token": GUEST}, "your token may not write to the Hub repository '{name}': take one with the "
         "role 'write' for 'org', or propose the change with create_pr=True (--create-pr)"),
        (None, None, {"token": False}, "takes pushes of logged-in users only: log in (hf auth login) or pass token="),
        (None, None, {"create_pr": True, "revision": "v2"}, "a pull request goes to the main branch; leave out revi"),
    ],
)  # fmt: skip
def test_a_push_that_fails_says_why_and_commits_nothing(step, how, options, message, hub, processes, new):
    hub.create(new)
    if step:
        hub.fail(STEPS[step], how, 10**6)
    refusal = processes["pusher"].refused(BARE_PUSH, repo=new, options={"token": OWNER, **options})
    assert refusal.startswith("HubError: ")
    assert message.format(url=hub.url, name=new) in refusal
    assert list(hub.repo(new).files()) == [".gitattributes"]
