"""A disk that fills up while a model is trained: an error that says so, and with room again the run goes on."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from fine_tuning import run, vote_rows, write_jsonl
from mounts import can_mount, longest_file, small

from p2l_sdk.errors import P2LError

SETTINGS = {"epochs": 1, "batch_size": 8, "validation": 0.2, "checkpoints": 2, "feedback": "grk"}
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def votes(tmp_path_factory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("votes") / "votes.jsonl", vote_rows("grk", 24, 5))


@pytest.fixture(scope="module")
def whole(votes, base, tmp_path_factory) -> bytes:
    output = tmp_path_factory.mktemp("whole") / "out"
    run(votes, output, base=str(base("llama")), **SETTINGS)
    return (output / WEIGHTS).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("kilobytes", [160, *(pytest.param(size, marks=pytest.mark.slow) for size in (40, 320))])
def test_a_disk_fills_up(kilobytes, votes, base, whole, tmp_path):
    """Within the checkpoints, in code of three libraries."""
    if not can_mount():
        pytest.skip("this machine lets no small disk be mounted")
    with small(tmp_path / "disk", kilobytes) as disk:
        output = disk / "out"
        with pytest.raises(P2LError, match=r"out\.checkpoints' cannot be written: No space left .* with --resume"):
            run(votes, output, base=str(base("llama")), **SETTINGS)
        assert not output.exists()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        run(votes, output, base=str(base("llama")), resume=True, **SETTINGS)
        assert (output / WEIGHTS).read_bytes() == whole
        assert [path.name for path in disk.iterdir()] == ["out"]


@pytest.mark.long
@pytest.mark.parametrize("n_bytes", [100_000, pytest.param(5_000, marks=pytest.mark.slow)])
def test_a_quota_is_used_up(n_bytes, votes, base, whole, tmp_path):
    output = tmp_path / "out"
    with longest_file(n_bytes), contextlib.suppress(P2LError):
        run(votes, output, base=str(base("llama")), **SETTINGS)
        raise AssertionError("it has room")
    assert not output.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"out.checkpoints"}
    run(votes, output, base=str(base("llama")), resume=True, **SETTINGS)
    assert (output / WEIGHTS).read_bytes() == whole


def test_a_static_model_leaves_nothing_on_a_full_disk(votes, saved, tmp_path):
    base = str(saved("static"))
    with longest_file(5_000), pytest.raises(P2LError, match="out' cannot be written: File too large"):
        run(votes, tmp_path / "out", base=base, epochs=1, copies=1, keep=0.5, precision="auto")
    assert list(tmp_path.iterdir()) == []
