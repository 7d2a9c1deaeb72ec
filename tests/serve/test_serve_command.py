"""`p2l serve`: the check of a config, addresses, keys and limits."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
from conftest import ROOT
from gateway_llms import CHEAP, LLM

from p2l_sdk.errors import BudgetError, P2LError
from p2l_sdk.serve.auth import Keys
from p2l_sdk.serve.connections import ConnectionLimits
from p2l_sdk.serve.process import require_address


def p2l(*arguments) -> None:
    """Run a p2l command in this process."""
    from p2l_sdk.cli import cli

    cli([str(argument) for argument in arguments], standalone_mode=False)


def test_the_example_is_in_the_docs_and_ready_to_serve(monkeypatch, capsys):
    example, page = ROOT / "examples" / "router.yaml", (ROOT / "docs" / "router.md").read_text()
    assert f"```yaml\n{example.read_text()}```" in page
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-y")
    p2l("serve", "--check", example)
    out = capsys.readouterr().out.replace(str(example), "examples/router.yaml")
    assert f"$ p2l serve --check examples/router.yaml\n{out}$ p2l serve --config" in page
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(P2LError, match=r"router\.yaml: these environment variables are not set: ANTHROPIC_API_KEY"):
        p2l("serve", "--check", example)
    with pytest.raises(P2LError, match="these environment variables are not set: ANTHROPIC_API_KEY"):
        p2l("serve", "--config", example)  # which would serve it


def test_the_check_says_what_is_unknown(tmp_path, capsys):
    path = tmp_path / "router.yaml"
    path.write_text(
        json.dumps(
            {"budget": 0.00001, "models": {CHEAP: LLM, **{name: {**LLM, "cost": 1} for name in ("new-llm", "gemma2")}}}
        )
    )
    with pytest.raises(BudgetError, match=r"the cheapest feasible budget is \$0.0001"):
        p2l("serve", "--model", "routing9", "--check", path)
    said = capsys.readouterr().out
    assert "new-llm: by name only: the P2L model does not know it, $1 per response" in said
    assert f"gemma2: by name only: the P2L model does not know it (did you mean {CHEAP!r}?), $1 per" in said


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"budget": 5}, "budget: $5 per response, for each routed request ($5000 for 1,000); "),
        ({"mean_budget": 0.3}, "mean_budget: $0.3 per response, averaged over all routed requests ($300 for 1,000); "),
    ],
)
def test_the_check_says_what_a_budget_means_and_that_one_in_another_unit_limits_nothing(budget, said, tmp_path, capsys):
    path, [(name, usd)] = tmp_path / "router.yaml", budget.items()
    path.write_text(json.dumps({**budget, "models": {CHEAP: LLM, "new-llm": {**LLM, "cost": 1}}}))
    p2l("serve", "--model", "routing9", "--check", path)
    out = capsys.readouterr().out
    assert said in out
    idle = f"{name}: the budget is USD per response, and no LLM costs more than $0.0001: it limits nothing"
    assert f"warning: {idle} (${usd} for 1,000 responses would be {usd / 1000:g})" in out
    path.write_text(json.dumps({name: 0.0002, "models": {CHEAP: LLM}}))
    p2l("serve", "--model", "routing9", "--check", path)
    out = capsys.readouterr().out
    assert f"{name}: $0.0002 per response" in out
    assert "limits nothing" not in out
    path.write_text(json.dumps({name: 5, "models": {CHEAP: {**LLM, "prices": {"input": 1, "output": 1}}}}))
    p2l("serve", "--model", "routing9", "--check", path)
    assert "it limits nothing but requests that are far longer than usual ($5 for" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_no_address_but_this_machine_without_a_key(host, monkeypatch):
    monkeypatch.delenv("P2L_API_KEYS", raising=False)
    with pytest.raises(P2LError, match=f"the address {host} can be reached from outside, and there is no API key; set"):
        p2l("serve", "--host", host)


@pytest.mark.long
def test_the_command_sets_the_limits_and_without_keys_answers_to_this_machine_only(routing9, tmp_path, monkeypatch):
    asked = []

    class Server:
        """A stand-in for uvicorn's server, without sockets."""

        def __init__(self, app):
            self.app = app

        async def serve(self):
            transport = httpx.ASGITransport(self.app)
            for host in ("localhost", "evil.example"):
                async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                    asked.append(await client.get("/v1/p2l/models"))

    monkeypatch.setattr("uvicorn.Config", lambda app, **_: app)
    monkeypatch.setattr("uvicorn.Server", Server)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.delenv("P2L_API_KEYS", raising=False)
    p2l("serve", "--model", "routing9", "--port", 0, "--max-prompts", 7, "--max-body-mb", 2)
    assert [reply.status_code for reply in asked] == [200, 403]
    assert asked[0].json()["limits"] == {"max_prompts": 7, "max_body_bytes": 2 * 2**20}
    path = tmp_path / "router.yaml"
    path.write_text(json.dumps({"models": {CHEAP: {**LLM, "cost": 0.00005}, "new-llm": {**LLM, "cost": 1}}}))
    p2l("serve", "--model", "routing9", "--port", 0, "--config", path)
    rows = asked[2].json()["models"]  # as seen by the page, and by clients that only ask for a route
    assert [row for row in rows if row["routed"]] == [{"model": CHEAP, "cost": 0.00005, "routed": True}]
    assert {row["model"]: row["cost"] for row in rows} == {**routing9.costs, CHEAP: 0.00005}
    monkeypatch.setenv("P2L_API_KEYS", "sk-0123456789abcdef")
    p2l("serve", "--port", 0)
    assert [reply.status_code for reply in asked[4:]] == [401, 401]


@pytest.mark.long
def test_the_command_sets_the_limits_of_connections(monkeypatch, caplog):
    taken = []

    class Server:
        def __init__(self, http):
            taken.append(http.keywords["connections"].limits)

        async def serve(self): ...

    monkeypatch.setattr("uvicorn.Config", lambda app, *, http, **_: http)
    monkeypatch.setattr("uvicorn.Server", Server)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.delenv("P2L_API_KEYS", raising=False)
    given = ("--max-connections", 7, "--max-per-client", 3, "--header-seconds", 2.5, "--max-header-kb", 16)
    for more in ((), (*given, "--proxy", "10.0.0.7", "--proxy", "fd00::/64")):
        p2l("serve", "--model", "routing9", "--port", 0, *more)
    here = ("127.0.0.0/8", "::1")
    assert taken[0] == ConnectionLimits()
    assert taken[1] == ConnectionLimits(
        max_connections=7, max_per_client=3, header_seconds=2.5, max_header_bytes=16384,
        proxies=(*here, "10.0.0.7", "fd00::/64"),
    )  # fmt: skip
    with pytest.raises(P2LError, match=r"'proxy.example' is no address of a proxy; write it as '10.0.0.7', or"):
        p2l("serve", "--model", "routing9", "--port", 0, "--proxy", "proxy.example")
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 512))
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    p2l("serve", "--model", "routing9", "--port", 0)
    assert taken[2].max_connections == 206
    assert "this process may open few files (ulimit -n): it takes at most 206 connections" in caplog.text


def test_where_it_cannot_listen_it_says_so_before_it_starts(monkeypatch):
    monkeypatch.setenv("P2L_API_KEYS", "sk-0123456789abcdef")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(P2LError, match=f"port {port} at 127.0.0.1 is in use; .* choose another with --port"):
            p2l("serve", "--port", port)
    for host in ("192.0.2.1", "no.such.host.invalid"):  # reserved for documentation, and nonexistent
        with pytest.raises(P2LError, match=f"{host} is no address of this machine; give one with --host"):
            p2l("serve", "--host", host, "--port", 0)
    require_address("localhost", port)  # the port is free again


def test_a_place_for_keys_without_a_key_is_no_open_server(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    monkeypatch.delenv("P2L_API_KEYS", raising=False)
    for text in ("", "\n", "# sk-0123456789abcdef\n"):
        file.write_text(text)
        with pytest.raises(P2LError, match=r"there is no API key in .*keys, so anybody could call the server; write"):
            Keys.load(file)
    with pytest.raises(P2LError, match="there is no API key in "):
        p2l("serve", "--api-keys", file)  # which would serve
    assert len(Keys.load()) == 0  # no keys configured
    for text in (",", " ", "#", ""):  # a compose file turns an unset variable into the empty string
        monkeypatch.setenv("P2L_API_KEYS", text)
        with pytest.raises(P2LError, match="there is no API key in P2L_API_KEYS, so anybody"):
            Keys.load()
    with pytest.raises(P2LError, match="keys or P2L_API_KEYS, so anybody"):
        Keys.load(file)
    file.write_text("sk-0123456789abcdef")
    assert len(Keys.load(file)) == 1
    with pytest.raises(P2LError, match=r"there is no API key in P2L_API_KEYS, .* or leave it out"):
        p2l("serve")  # which would serve
