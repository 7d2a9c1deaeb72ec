"""`p2l collect`: every setting of the config honoured, faults, a killed run, the spend limit, pairs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from asked_llms import FAST, config, config_file, lines
from click.testing import CliRunner
from mpg_results import refusal
from scripted_server import Script, ScriptedServer

from p2l_sdk.cli import cli
from p2l_sdk.errors import P2LError
from p2l_sdk.judging import Limits, collect
from p2l_sdk.judging.answers import read_answers
from p2l_sdk.judging.pairs import Pairs, read_plan
from p2l_sdk.serve.gateway.config import GatewayConfig

ROUNDING = 1e-9  # USD, of a sum
PROMPTS = [f"q number {i}" for i in range(6)]


def asked_of(server: ScriptedServer) -> Counter[tuple[str, str]]:
    """(upstream's name of the LLM, prompt) -> number of requests."""
    return Counter((body["model"], body["messages"][-1]["content"]) for body in server.bodies)


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_every_llm_is_asked_every_prompt_as_the_config_says(tmp_path, monkeypatch):
    monkeypatch.setenv("THE_KEY", "sk-secret-0123456789")
    with ScriptedServer({"*": Script(usage=(100, 50))}) as server:
        llms = {
            "plain": {"base_url": f"{server.base_url}?version=7", "cost": 0.002},
            "full": {
                "base_url": f"{server.base_url}/", "upstream_model": "up/full", "api_key_env": "THE_KEY",
                "api_key_header": "x-key", "system": "be brief", "temperature": 0.3, "top_p": 0.9, "max_tokens": 77,
                "headers": {"X-Team": "search"}, "prices": {"input": 2.0, "output": 4.0},
            },
        }  # fmt: skip
        chat = [{"role": "system", "content": "mine"}, {"role": "user", "content": "talk to me"}]
        prompts = ["hello", chat, "hello"]  # the third is the first again
        found = collect(prompts, GatewayConfig.from_dict({"models": llms}), tmp_path / "a.jsonl", limits=FAST)
        bodies = {(b["model"], b["messages"][-1]["content"]): b for b in server.bodies}
        heads = dict(zip((b["model"] for b in server.bodies), server.headers, strict=True))
    assert len(server.bodies) == len(bodies) == 4
    full, plain = bodies["up/full", "hello"], bodies["plain", "hello"]
    assert full["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert (full["temperature"], full["top_p"], full["max_tokens"]) == (0.3, 0.9, 77)
    assert not {"temperature", "top_p"} & set(plain)  # left to the server
    assert plain["max_tokens"] == 1024
    assert bodies["up/full", "talk to me"]["messages"] == chat  # it has a system message of its own
    assert "x-key: sk-secret-0123456789" in heads["up/full"].lower()
    assert "authorization" not in heads["up/full"].lower()
    assert "x-team: search" in heads["up/full"].lower()
    assert heads["plain"].startswith("POST /v1/chat/completions?version=7 ")
    assert heads["up/full"].startswith("POST /v1/chat/completions ")
    costs = {llm.name: llm.cost for llm in found.llms}
    assert costs == {"plain": pytest.approx(0.004), "full": pytest.approx(2 * (100 * 2 + 50 * 4) / 1e6)}
    assert found.spent == pytest.approx(sum(costs.values()))
    assert "sk-secret" not in (tmp_path / "a.jsonl").read_text()
    read = read_answers(tmp_path / "a.jsonl")
    assert read.prompts == ["hello", chat]
    assert read.texts == [{"plain": "yes it is", "full": "yes it is"}] * 2


def test_what_cannot_be_asked_is_refused_before_anything_is_sent(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    output = tmp_path / "a.jsonl"
    with ScriptedServer() as server:
        llms = config(server, "a", "b", cost=0.1)
        assert "variables are not set: NO_KEY" in refusal(
            collect, PROMPTS, config(server, "a", api_key_env="NO_KEY"), output
        )
        text = refusal(collect, PROMPTS, config(server, "a"), output, limits=Limits(spend=1.0))
        assert (
            text == "a spend limit needs the price of every LLM, and the config has none of a; give it a cost or prices"
        )
        assert "names 'c', which is not in the config" in refusal(collect, PROMPTS, llms, output, models=["c"])
        assert refusal(collect, [], llms, output) == "there is no prompt to ask"
        ends = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
        assert "prompt 1 ends with an answer" in refusal(collect, [ends], llms, output)
        assert "spend is -1" in refusal(Limits, spend=-1)
        with pytest.raises(P2LError, match="no option 'modles'; did you mean 'models'"):
            collect(PROMPTS, llms, output, modles=["a"])
        assert not server.bodies
    assert not output.exists()


# --- faults ----------------------------------------------------------------------------------------------------------


def test_what_fails_is_sent_again_and_then_recorded(tmp_path, monkeypatch):
    """A 429 with Retry-After is honoured, 5xx, broken and garbled replies are sent again, a 400 is not."""
    tries: Counter[str] = Counter()
    times: dict[str, list[float]] = {}
    faults = {
        "busy": Script(status=429, header="Retry-After: 1"),
        "down": Script(status=503),
        "cut": Script(cut=True),
        "garbage": Script(raw=b"<html>hello</html>"),
        "slow": Script(total=5.0),
    }

    def recovers(body: dict) -> Script:
        word = body["messages"][-1]["content"].split()[0]
        tries[word] += 1
        times.setdefault(word, []).append(time.monotonic())
        return faults[word] if tries[word] == 1 else Script()

    scripts = dict.fromkeys(faults, recovers)
    scripts |= {
        "wrong": Script(status=400),
        "never": Script(status=500),
        "leak": Script(raw=b'data: {"error": "sk-1"}\n\n'),
    }
    with ScriptedServer(scripts) as server:
        monkeypatch.setenv("LEAKED", "sk-1")
        llms = config(
            server, "a", prices={"input": 1.0, "output": 1.0}, timeout=0.3, max_tokens=100, api_key_env="LEAKED"
        )
        limits = Limits(backoff=0.01, attempts=3)
        found = collect([f"{word} ?" for word in scripts], llms, tmp_path / "a.jsonl", limits=limits)
        rows = {row["prompt"].split()[0]: row for row in lines(tmp_path / "a.jsonl")}
        assert {word: row.get("error") for word, row in rows.items()} == {
            **dict.fromkeys(faults), "wrong": "status 400", "never": "status 500", "leak": "error",
        }  # fmt: skip
        assert server.asked == Counter({**{f"{w} ?": 2 for w in faults}, "wrong ?": 1, "never ?": 3, "leak ?": 1})
        assert times["busy"][1] - times["busy"][0] >= 1.0  # not the backoff, but what the server asked for
        assert "overloaded" in rows["wrong"]["detail"]
        assert "sk-1" not in (tmp_path / "a.jsonl").read_text()
        assert rows["never"]["attempts"] == 3
        # an answer that broke off may have been billed: its most is assumed; an error status is not billed
        usual = 30 / 1e6
        assert rows["busy"]["cost"] == rows["down"]["cost"] == pytest.approx(usual)
        assert rows["slow"]["cost"] > usual + 100 / 1e6
        assert rows["never"]["cost"] == 0
        assert found.llms[0].failures == {"status 400": 1, "status 500": 1, "error": 1}
        server.scripts = {}
        again = collect([f"{word} ?" for word in scripts], llms, tmp_path / "a.jsonl", limits=limits)
        assert again.llms[0].n_failed == 3  # recorded, and not asked again
        more = collect([f"{w} ?" for w in scripts], llms, tmp_path / "a.jsonl", limits=limits, retry_failed=True)
    assert (more.llms[0].n_failed, more.llms[0].n_answered) == (0, len(scripts))
    assert server.asked["wrong ?"] == 2
    assert server.asked["busy ?"] == 2
    assert more.assumed == pytest.approx(found.assumed)
    assert read_answers(tmp_path / "a.jsonl").n_failed == 0


def test_a_server_that_demands_too_long_a_wait_has_failed(tmp_path):
    with ScriptedServer({"*": Script(status=429, header="Retry-After: 3600")}) as server:
        found = collect(["hello"], config(server, "a"), tmp_path / "a.jsonl")
    assert found.llms[0].failures == {"status 429": 1}
    assert server.asked["hello"] == 1


def test_an_llm_that_does_not_answer_at_all_is_left_alone_and_named(tmp_path):
    with ScriptedServer({"*": Script(total=0.02)}) as server:
        entry = {"base_url": server.base_url}
        llms = {"good": entry, "gone": {"base_url": "http://127.0.0.1:9/v1"}}
        prompts = [f"q number {i}" for i in range(30)]
        limits = Limits(backoff=0.01, attempts=2, concurrency=2)
        found = collect(prompts, GatewayConfig.from_dict({"models": llms}), tmp_path / "a.jsonl", limits=limits)
    good, gone = found.llms
    assert good.n_answered == 30
    assert 3 <= gone.n_failed <= 5
    assert gone.n_failed + found.stopped.n_left == 30
    text = refusal(found.stopped.require_all, None, found.output)
    assert text.startswith("gone did not answer (connection: ")
    assert "run the same command with --retry-failed" in text


def test_requests_per_minute_are_of_each_llm(tmp_path):
    times: dict[str, list[float]] = {"a": [], "b": []}

    def note(body: dict) -> Script:
        times[body["model"]].append(time.monotonic())
        return Script()

    with ScriptedServer({"*": note}) as server:
        collect(PROMPTS, config(server, "a", "b"), tmp_path / "a.jsonl", limits=Limits(requests_per_minute=600))
    for at in times.values():
        assert len(at) == 6
        assert at[-1] - at[0] >= 0.45  # five steps of 0.1 s
        assert at[-1] - at[0] < 1.0


# --- an interrupted run ----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_killed_run_loses_and_repeats_nothing(tmp_path):
    n, output = 40, tmp_path / "answers.jsonl"
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": f"q number {i}"}) + "\n" for i in range(n)))
    with ScriptedServer({"*": Script(total=0.1)}) as server:
        llms = config_file(tmp_path / "router.yaml", server, "a", "b", cost=0.001)
        command = ["collect", "--prompts", str(tmp_path / "p.jsonl"), "--config", str(llms), "--output", str(output)]
        command += ["--concurrency", "3"]
        process = subprocess.Popen([sys.executable, "-m", "p2l_sdk", *command], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (output.exists() and output.read_bytes().count(b"\n") >= 10):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kept = output.read_bytes()
        assert kept.endswith(b"\n")
        first = lines(output)
        output.write_bytes(kept + b'{"prompt": "q number 39", "mod')  # killed in the middle of a line
        before = asked_of(server)
        result = CliRunner().invoke(cli, [*command, "--json"], catch_exceptions=False)
        found = json.loads(result.stdout)
        after = asked_of(server)
        assert output.read_bytes().startswith(kept)
        rows = lines(output)
        assert Counter((row["model"], row["prompt"]) for row in rows) == Counter(
            (model, f"q number {i}") for model in "ab" for i in range(n)
        )
        for row in first:
            assert after[row["model"], row["prompt"]] == 1
        twice = {key for key, count in after.items() if count > 1}
        assert len(twice) <= 3  # in flight when it was killed
        assert twice <= set(before)
        assert [llm["n_answered"] for llm in found["llms"]] == [n, n]
        n_sent = sum(after.values())  # what was in flight counts, even if it had not reached the server yet
        assert 0.001 * n_sent - ROUNDING < found["spent"] < 0.001 * (n_sent + 3) + ROUNDING
        CliRunner().invoke(cli, [*command, "--json"], catch_exceptions=False)
        assert asked_of(server) == after


def test_another_run_is_refused_by_name_and_an_llm_more_is_not(tmp_path):
    output = tmp_path / "a.jsonl"
    with ScriptedServer() as server:
        collect(PROMPTS, config(server, "a", temperature=0.5), output)
        same = config(server, "a", temperature=0.5)
        assert "holds a run with temperature 0.5, not 0.7" in refusal(
            collect, PROMPTS, config(server, "a", temperature=0.7), output
        )
        assert "with system None, not 'hi'" in refusal(
            collect, PROMPTS, config(server, "a", temperature=0.5, system="hi"), output
        )
        assert "with prompts '" in refusal(collect, PROMPTS[:5], same, output)
        assert "with max_tokens 1024, not 9" in refusal(collect, PROMPTS, same, output, max_tokens=9)
        (tmp_path / "mine.txt").write_text("my notes")
        assert "holds no answers of `p2l collect`" in refusal(collect, PROMPTS, same, tmp_path / "mine.txt")
        (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "score": 1}\n')
        assert "line 1 is no answer of `p2l collect`" in refusal(collect, PROMPTS, same, tmp_path / "rows.jsonl")
        n = len(server.bodies)
        found = collect(PROMPTS, config(server, "a", "b", temperature=0.5), output)
        assert {body["model"] for body in server.bodies[n:]} == {"b"}
        assert [llm.n_answered for llm in found.llms] == [6, 6]
    assert (tmp_path / "mine.txt").read_text() == "my notes"


def test_two_runs_do_not_write_to_one_file(tmp_path):
    with ScriptedServer({"*": Script(total=0.5)}) as server:
        other = threading.Thread(target=lambda: collect(PROMPTS, config(server, "a"), tmp_path / "a.jsonl"))
        other.start()
        while not server.bodies:
            time.sleep(0.01)
        assert "another process writes to" in refusal(collect, PROMPTS, config(server, "a"), tmp_path / "a.jsonl")
        other.join()


# --- the spend limit -------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("cost", ["prices", "response"])
def test_the_spend_limit_is_never_exceeded_in_any_part(cost, tmp_path):
    """The server counts what it bills: eight at once, three parts of the run, the second one killed."""
    billed: list[float] = []

    def bill(body: dict) -> Script:
        tokens = 10 + 7 * len(billed) % 41  # the answers differ in length
        billed.append((5 * 1.0 + tokens * 10.0) / 1e6 if cost == "prices" else 0.0005)
        return Script(usage=(5, tokens), total=0.02)

    prompts = [f"q number {i}" for i in range(60)]
    settings = {"prices": {"input": 1.0, "output": 10.0}, "max_tokens": 50} if cost == "prices" else {"cost": 0.0005}
    with ScriptedServer({"*": bill}) as server:
        llms = config(server, "a", "b", **settings)
        first = collect(prompts, llms, tmp_path / "a.jsonl", limits=Limits(spend=0.008, concurrency=8))
        assert first.stopped.limit_reached
        assert 0.5 * 0.008 < sum(billed) < 0.008 + ROUNDING  # the limit is used, too
        assert first.spent == pytest.approx(sum(billed))
        assert (
            abs(first.llms[0].n_answered - first.llms[1].n_answered) <= 8
        )  # the same prompts, so that they can be paired
        text = refusal(first.stopped.require_all, 0.008, first.output)
        assert text.startswith(
            f"the spend limit of 0.008 USD is reached, {first.stopped.n_left} queries were not asked"
        )
        n = len(server.bodies)
        collect(prompts, llms, tmp_path / "a.jsonl", limits=Limits(spend=0.0081))
        assert sum(billed) < 0.0081 + ROUNDING
        assert len(server.bodies) <= n + 1
        file = config_file(tmp_path / "router.yaml", server, "a", "b", **settings)
        (tmp_path / "p.txt").write_text("\n".join(prompts))
        command = ["collect", "--prompts", tmp_path / "p.txt", "--config", file, "--output", tmp_path / "a.jsonl"]
        command += ["--spend-limit", "0.012"]
        n = len(server.bodies)
        process = subprocess.Popen([sys.executable, "-m", "p2l_sdk", *map(str, command)], stderr=subprocess.DEVNULL)
        while len(server.bodies) < n + 4 and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.wait()
        time.sleep(0.1)
        last = collect(prompts, llms, tmp_path / "a.jsonl", limits=Limits(spend=0.012))
        assert sum(billed) < 0.012 + ROUNDING
        assert last.spent < 0.012 + ROUNDING
        assert last.spent > sum(billed) - ROUNDING  # what was in flight is assumed at its most
        (tmp_path / "a.jsonl.spending").unlink()  # the rows know what they cost
        n = len(server.bodies)
        collect(prompts, llms, tmp_path / "a.jsonl", limits=Limits(spend=0.004))
        assert len(server.bodies) == n


@pytest.mark.parametrize("bills_errors", [False, True])
def test_a_status_after_which_an_answer_may_be_billed_is_assumed_at_its_most(bills_errors, tmp_path):
    statuses = {"lost": 504, "failed": 424, "busy": 503, "down": 500}
    with ScriptedServer({word: Script(status=status) for word, status in statuses.items()}) as server:
        prices = {"input": 1.0, "output": 1.0}
        llms = config(server, "a", prices=prices, max_tokens=100, bills_errors=bills_errors)
        found = collect([*statuses], llms, tmp_path / "a.jsonl", limits=Limits(attempts=1))
    assert found.llms[0].n_failed == 4
    billed = [*statuses] if bills_errors else ["lost", "failed"]
    assert found.spent == found.assumed == pytest.approx(sum(len(word) + 32 + 100 for word in billed) / 1e6)


def test_a_server_that_counts_no_tokens_is_assumed_to_have_used_all(tmp_path):
    with ScriptedServer({"*": Script(usage=None)}) as server:
        llms = config(server, "a", prices={"input": 1.0, "output": 1.0}, max_tokens=100)
        found = collect(["hello"], llms, tmp_path / "a.jsonl")
    assert found.spent == found.assumed == pytest.approx((len("hello") + 32 + 100) / 1e6)


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_pairs_are_drawn_alike_in_every_part_and_whatever_the_other_prompts():
    models = list("abcdef")
    pairs = Pairs(per_prompt=2, seed=3)
    drawn = [pairs.of(prompt, models) for prompt in PROMPTS]
    assert [pairs.of(prompt, models[::-1]) for prompt in PROMPTS] == drawn
    assert all(len({frozenset(pair) for pair in of}) == 2 for of in drawn)
    assert [Pairs(per_prompt=2, seed=4).of(prompt, models) for prompt in PROMPTS] != drawn
    many = Counter(
        pair for i in range(3000) for pair in Pairs(per_prompt=1).of(f"prompt {i}", models)
    )  # 30 ordered pairs, 100 each: standard deviation 9.8
    assert len(many) == 30
    assert all(60 < count < 140 for count in many.values())
    assert "not both" in refusal(Pairs, per_prompt=1, plan={})


def test_only_the_llms_of_the_pairs_are_asked(tmp_path):
    (tmp_path / "plan.jsonl").write_text(
        "".join(
            json.dumps({"prompt": p, "model_a": a, "model_b": b, "gain": 1.5}) + "\n"
            for p, a, b in [("q number 1", "a", "b"), ("q number 1", "b", "a"), ("q number 4", "c", "a")]
        )
    )
    with ScriptedServer() as server:
        llms = config(server, "a", "b", "c", "d")
        plan = Pairs(plan=read_plan(tmp_path / "plan.jsonl"))
        collect(PROMPTS, llms, tmp_path / "a.jsonl", pairs=plan)
        assert set(asked_of(server)) == {
            ("a", "q number 1"),
            ("b", "q number 1"),
            ("a", "q number 4"),
            ("c", "q number 4"),
        }
        some = Pairs(per_prompt=1, seed=5)
        wanted = {(name, p) for p in PROMPTS for pair in some.of(p, list(llms.models)) for name in pair}
        before = set(asked_of(server))
        collect(PROMPTS, llms, tmp_path / "a.jsonl", pairs=some)  # the same answers serve other pairs
        assert set(asked_of(server)) == wanted | before
        assert max(asked_of(server).values()) == 1
        text = refusal(collect, PROMPTS[:2], llms, tmp_path / "b.jsonl", pairs=plan)
        assert text == "the plan has 1 prompt not among the prompts here; the first is 'q number 4'"
        text = refusal(collect, PROMPTS, config(server, "a", "b"), tmp_path / "b.jsonl", pairs=plan)
        assert text.startswith("the plan names 'c', which is none of the LLMs here")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x", "model_a": "a", "model_b": "a"}\n')
    assert "line 1: 'a' is compared with itself" in refusal(read_plan, tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x", "model_a": "a"}\n')
    assert "line 1 has no column 'model_b'" in refusal(read_plan, tmp_path / "bad.jsonl")


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_ends_with_an_error_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("\n".join(PROMPTS))
    with ScriptedServer({"*": Script(usage=(100, 50))}) as server:
        config_file(tmp_path / "r.yaml", server, "a", "b", prices={"input": 1.0, "output": 2.0}, max_tokens=50)
        command = ["collect", "--prompts", "p.txt", "--config", "r.yaml", "--output", "a.jsonl", "--models", "b"]
        result = CliRunner().invoke(cli, command, catch_exceptions=False)
        table = result.stdout.splitlines()
        assert table == [
            "LLM  answers  failed  tokens in  tokens out  seconds      USD",
            table[1],
            "spent: $0.0012",
            "answers: a.jsonl",
        ]
        assert table[1].split()[:5] == ["b", "6", "0", "600", "300"]
        text = refusal(
            CliRunner().invoke, cli, [*command[:-1], "a,b", "--spend-limit", "0.0015"],
            catch_exceptions=False, standalone_mode=False,
        )  # fmt: skip
        assert text.startswith("the spend limit of 0.0015 USD is reached")
        assert "give --prompts or --questions" in CliRunner().invoke(cli, [*command, "--questions", "q"]).stderr
