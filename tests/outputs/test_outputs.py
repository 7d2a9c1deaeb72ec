"""Outputs: what killed processes left over is found, named and removed or finished; what is alive is left alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from p2l_sdk.errors import P2LError, P2LWarning
from p2l_sdk.outputs.files import new_file, require_file, write_file
from p2l_sdk.outputs.folders import half_written, new_folder, require_new
from p2l_sdk.outputs.leftovers import scratch_folder

FILES = ("a.txt", "config.json", "weights")


def killed(action, *arguments) -> None:
    """Run an action in a process that kills itself at its end, or stays alive until it is killed here."""
    process = multiprocessing.get_context("fork").Process(target=action, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def fill(partial: Path) -> None:
    for name in FILES:
        (partial / name).write_text(name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_way(target: Path) -> None:
    with new_folder(target) as partial:
        (partial / "weights").write_text("half")
        die()


def at_a_move(target: Path, moves: int) -> None:
    """Killed while the files of a finished result move up."""
    real, count = os.rename, 0

    def rename(*arguments) -> None:
        nonlocal count
        if count == moves:
            die()
        count += 1
        real(*arguments)

    os.rename = rename
    with new_folder(target) as partial:
        fill(partial)


def half_a_file(target: Path) -> None:
    with new_file(target) as partial:
        partial.write_text("half")
        die()


@pytest.mark.parametrize("is_there", [False, True])
def test_half_a_folder_is_removed_by_the_next_run(is_there, tmp_path):
    target = tmp_path / "out"
    if is_there:
        target.mkdir()
    killed(half_way, target)
    (left,) = (target if is_there else tmp_path).glob(".*p2l-*")
    assert half_written(target) is is_there
    with pytest.warns(P2LWarning, match=f"removed '{left}', left over by a run that was killed"):
        require_new(target)
    assert not left.exists()
    with new_folder(target) as partial:
        fill(partial)
    assert sorted(os.listdir(target)) == list(FILES)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("moves", range(4))
def test_a_finished_folder_is_finished_by_the_next_run(moves, tmp_path):
    (target := tmp_path / "out").mkdir()
    killed(at_a_move, target, moves) if moves < 3 else killed(at_a_move, tmp_path / "out2", 0)
    where = target if moves < 3 else tmp_path / "out2"
    with pytest.raises(P2LError, match="exists already: a run had finished it when it was killed, and it is whole now"):
        require_new(where)
    assert sorted(os.listdir(where)) == list(FILES)
    assert [(where / name).read_text() for name in FILES] == list(FILES)
    with pytest.raises(P2LError, match="exists already; name a new or an empty folder"):
        require_new(where)


def test_a_finished_folder_whose_place_is_taken_is_named(tmp_path):
    target = tmp_path / "out"
    killed(at_a_move, target, 0)
    target.mkdir()
    (target / "theirs").touch()
    for _ in range(2):
        with pytest.raises(P2LError, match=r"exists already; .* holds a finished result that could not be put there"):
            require_new(target)
    assert os.listdir(target) == ["theirs"]


@pytest.mark.parametrize("is_there", [False, True])
def test_what_a_living_process_writes_is_left_alone(is_there, tmp_path):
    target = tmp_path / "out"
    if is_there:
        target.mkdir()

    def slow() -> None:
        with new_folder(target) as partial:
            fill(partial)
            time.sleep(60)

    process = multiprocessing.get_context("fork").Process(target=slow)
    process.start()
    while not list(tmp_path.rglob("weights")):
        time.sleep(0.01)
    with pytest.raises(P2LError, match=r"another process is writing '.*out'; wait for its end"):
        require_new(target)
    assert list(tmp_path.rglob("weights"))
    process.kill()
    process.join()
    with pytest.warns(P2LWarning, match="removed"):
        require_new(target)


def test_what_is_not_ours_is_left_alone(tmp_path):
    others = [tmp_path / name for name in (".out-abc", ".other.p2l-abc", "out.p2l-abc", ".out.p2l")]
    for other in others:
        other.mkdir()
    (tmp_path / ".out.p2l-link").symlink_to(others[0])
    with new_folder(tmp_path / "out") as partial:
        fill(partial)
    assert all(other.is_dir() for other in others)
    assert (tmp_path / ".out.p2l-link").is_symlink()


def test_half_a_file_is_removed_and_the_old_one_stays(tmp_path):
    path = tmp_path / "x.json"
    write_file(path, "old")
    killed(half_a_file, path)
    assert path.read_text() == "old"
    with pytest.warns(P2LWarning, match=r"removed '.*\.x\.json\.p2l-.*\.json', left over"):
        require_file(path)
    write_file(path, "new")
    assert (os.listdir(tmp_path), path.read_text()) == (["x.json"], "new")
    with pytest.raises(P2LError, match="exists already; name a new file"):
        write_file(path, "newer", new=True)


def test_a_scratch_folder_goes_with_its_block_or_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def work() -> None:
        with scratch_folder() as folder:
            (folder / "x").touch()
            die()

    killed(work)
    assert len(os.listdir(tmp_path)) == 1
    with pytest.warns(P2LWarning, match="left over"), scratch_folder() as folder:
        (folder / "x").touch()
    assert os.listdir(tmp_path) == []


def test_an_error_in_between_leaves_nothing(tmp_path):
    def work() -> None:
        with new_folder(tmp_path / "a" / "out") as partial:
            fill(partial)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert os.listdir(tmp_path / "a") == []
    require_new(tmp_path / "b" / "out")
    assert os.listdir(tmp_path) == ["a"], "the check has made nothing"
