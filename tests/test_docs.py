"""README and docs are correct: their Python and p2l commands are run, and the output is compared.

A `text` block is the output of the `python` or `sh` block before it. The blocks of a page run in order, in one
namespace, in an empty folder. Shell lines that install, train or serve, and those that ask LLMs but on the page about
that, are tested elsewhere (.ci/run, test_training, test_serve, test_gateway, test_judging).
To rewrite the outputs after a change: P2L_WRITE_DOCS=1 pytest -m long tests/test_docs.py
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import forks
import pytest
from asked_llms import ASKED, PROVIDERS, stand_in
from conftest import ROOT, shared
from fine_tuning import vote_rows, write_base, write_jsonl
from scripted_server import ScriptedServer

PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
FILES = {
    "prompts.txt": "What is 17 * 23?\nWrite a haiku about the sea\n",
    "votes.jsonl": '{"prompt": "What is 17 * 23?", "model_a": "codegemma-7b", "model_b": "gemma-2-9b-it", '
    '"winner": "model_b"}\n',
}
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"  # on the page about training, replaced by a tiny random model
TRAINING = "docs/train-on-your-votes.md"
YOUR_FILE = "docs/your-file.md"  # its files are the blocks that follow their names
NAMED = re.compile(r"^`(\S+)`\n\n```\w+\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
ANALYSIS = "docs/analysis.md"
NO_VOTES = "docs/no-votes.md"  # its LLMs and its judge are stand-ins at a local server
PUBLISHED = {"lmarena-ai/p2l-7b-grk-02222025": "oracle/ckpt/tiny-qwen2-grk"}  # replaced by a tiny checkpoint


def shell(block: str) -> str:
    """Run the p2l commands of a block; returns their combined output."""
    output, trains = "", Path("base").is_dir()
    for line in block.splitlines():
        command = line.rpartition("&& ")[2].replace(BASE, "base")
        elsewhere = command.startswith("p2l serve") or "my-model" in command or ("my-adapter" in command and not trains)
        elsewhere |= command.startswith(("p2l collect", "p2l judge")) and not Path("router.yaml").is_file()
        if not command.startswith("p2l ") or elsewhere:
            continue
        if trains:  # in this process: a new one would import torch each time
            from p2l_sdk.cli import cli

            cli(shlex.split(command)[1:], standalone_mode=False)
            continue
        words = shlex.split(command, comments=True)[1:]
        result = forks.python("-m", "p2l_sdk", *words, env={**os.environ, "COLUMNS": "80"}, text=True)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
        output += result.stdout
    return output


def stand_ins(text: str, server: ScriptedServer) -> str:
    """The page with the address of the stand-ins for those of the providers."""
    for address in PROVIDERS:
        text = text.replace(address, server.base_url)
    return text


def python(block: str, names: dict) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(block, "<documentation>", "exec"), names)
    return output.getvalue()


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.fixture(scope="module")
def providers():
    with ScriptedServer({"*": stand_in}) as server:
        yield server


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page, tmp_path, monkeypatch, providers):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_text(content)
    if page == TRAINING:
        write_base(Path("base"), "llama")
        votes = vote_rows()
        trained = {row["prompt"] for row in votes}
        write_jsonl(Path("votes.jsonl"), votes)
        write_jsonl(Path("held_out.jsonl"), [row for row in vote_rows(seed=1) if row["prompt"] not in trained])
    text = (ROOT / page).read_text(encoding="utf-8")
    run = text
    for name, content in NAMED.findall(text) if page == YOUR_FILE else ():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")
    if page == ANALYSIS:
        Path("examples").symlink_to(ROOT / "examples")
    if page == NO_VOTES:
        Path("votes.jsonl").unlink()
        write_jsonl(Path("prompts.jsonl"), [{"prompt": prompt} for prompt in ASKED])
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
            monkeypatch.setenv(name, "sk-of-the-docs")
        run = stand_ins(text, providers)
    for repo_id, checkpoint in PUBLISHED.items():
        if repo_id in text:
            shutil.copytree(shared(checkpoint), Path(repo_id))
    names: dict = {"__name__": "documentation"}
    last, produced = "", []
    for kind, block in BLOCK.findall(run):
        if kind == "python":
            last = python(block, names)
        elif kind == "yaml":
            Path("router.yaml" if page == NO_VOTES else "run.yaml").write_text(block.replace(BASE, "base"))
        elif kind == "sh":
            last = shell(block)
        elif kind == "text" and last:
            produced.append((block, last))
    if os.environ.get("P2L_WRITE_DOCS"):
        for shown, real in produced:
            text = text.replace(f"```text\n{shown}```", f"```text\n{tidy(real)}\n```", 1)
        (ROOT / page).write_text(text, encoding="utf-8")
        return
    for shown, real in produced:
        assert tidy(shown) == tidy(real)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_the_two_commands_of_the_readme_are_those_that_ci_runs():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert 'pip install -c constraints.txt -e ".[dev]" && pytest' in readme
    assert 'pip install -q -c constraints.txt -e ".[dev]"' in ci
    assert re.search(
        r'^pytest -m "not slow and not thorough"', ci, re.MULTILINE
    )  # those of `pytest`, and the long ones
    assert (
        shutil.which("bash") is None
        or subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0
    )
