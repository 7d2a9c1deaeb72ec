"""Hostile places for results: every command that writes one, at every place that cannot take it, and at those that
look as if they could not. A refused command must speak of its output alone: all its inputs are missing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz_values import make_files
from hostile import Case, command
from hostile_places import NO_FILES, NO_FOLDERS, Place, a_file
from mounts import can_mount, longest_file, mounted, small

# --- commands, without their output, which is added at the end or in place of OUT; none of their inputs is there ------

FOLDERS = {
    "train": ["train", "--votes", "none.jsonl", "--output", "OUT"],
    "train-text": ["train", "--votes", "none.jsonl", "--base", "none/none", "--output", "OUT"],
    "add-model": ["add-model", "new", "--votes", "none.jsonl", "--model", "none", "--output", "OUT"],
    "remove-model": ["remove-model", "old", "--model", "none", "--output", "OUT"],
    "rename-model": ["rename-model", "old", "new", "--model", "none", "--output", "OUT"],
    "convert": ["convert", "none", "OUT"],
    "merge": ["merge", "none", "OUT"],
    "build": ["build", "--ratings", "none.csv", "--prompts", "none.jsonl", "--output", "OUT"],
    "mpg": ["mpg", "report", "--results", "none.csv", "--output", "OUT"],
    "export": ["export", "none", "--runtime", "vllm", "--output", "OUT"],
}
FILES = {
    "costs": ["costs", "--model", "none", "--output", "OUT"],
    "plan": ["plan", "--prompts", "none.txt", "--models", "a,b", "--output", "OUT"],
    "frontier": ["frontier", "none.txt", "--output", "OUT"],
    "evaluate": ["evaluate", "--votes", "none.jsonl", "--plot", "OUT"],
    "aggregate": ["aggregate", "none.txt", "--model", "none", "--output", "OUT"],
    "strengths": ["analyze", "strengths", "none.txt", "--model", "none", "--output", "OUT"],
    "aggregation": ["analyze", "aggregation", "none.csv", "--model", "none", "--output", "OUT"],
    "categories": ["analyze", "categories", "none.csv", "--by", "x", "--model", "none", "--output", "OUT"],
    "personal": ["personal", "none.json", "--output", "OUT"],
}
# --- commands whose output says whether they begin or go on: they read their inputs (of `make_files`) first ---

NOBODY = "http://127.0.0.1:9"
RESUMED = {
    "score": ["score", "IN/prompts.txt", "--model", "routing9", "--output", "OUT"],
    "scaling": ["analyze", "scaling", "--votes", "IN/votes.csv", "--sizes", "2,3,4", "--output", "OUT"],
    "collect": ["collect", "--config", "IN/config.yaml", "--prompts", "IN/prompts.txt", "--output", "OUT"],
    "judge": ["judge", "IN/answers.jsonl", "--judge", f"j@{NOBODY}", "--output", "OUT"],
    "grade": ["judge", "IN/answers.jsonl", "--questions", "IN/asked.jsonl", "--grader", "exact", "--output", "OUT"],
    "measure": [
        *f"mpg measure --base-url {NOBODY} --model x".split(),
        *["--questions", "IN/asked.jsonl", "--output", "OUT"],
    ],
}
UNFIT = ("below-a-file", "long-name", "nul", "empty-name", "nobody", "proc")


def refused(name: str, words: list[str], place: str, make: Place, says: str) -> Case:
    def run(folder: Path) -> str:
        inputs = folder / "inputs"
        if any(word.startswith("IN/") for word in words):
            inputs.mkdir()
            make_files(inputs)
            os.environ["A_KEY"] = "of nobody"
        output = make(folder)
        before = sorted(folder.rglob("*"))
        try:
            return command(*(output if word == "OUT" else word.replace("IN", str(inputs), 1) for word in words))
        finally:
            assert sorted(folder.rglob("*")) == before, "it leaves something behind"

    return Case(f"{name}-{place}", run, says=says)


# --- places that can take a result, whatever they look like ----------------------------------------------------------


def model() -> Path:
    from p2l_sdk.hub.folders import STATIC_MODEL

    return STATIC_MODEL


def saved(folder: Path) -> str:
    from p2l_sdk import P2L

    P2L.from_pretrained(model()).save_pretrained(folder)
    return str(folder)


def renamed(folder: Path) -> str:
    name = json.loads((model() / "config.json").read_text())["models"][0]
    return command("rename-model", name, "another", "--model", str(model()), "--output", str(folder))


def is_whole(folder: Path) -> bool:
    """Whether the model at a place is whole, and nothing else is there."""
    from p2l_sdk import P2L

    P2L.from_pretrained(folder).leaderboard("hello")
    ours = [path.name for path in (*folder.iterdir(), *folder.resolve().parent.iterdir()) if ".p2l-" in path.name]
    return not ours and (folder / "model.safetensors").read_bytes()[8:] != b""


def link_to_empty(folder: Path) -> Path:
    (folder / "real").mkdir()
    (folder / "out").symlink_to("real")
    return folder / "out"


def link_to_nothing(folder: Path) -> Path:
    (folder / "out").symlink_to(folder / "deep" / "real")
    return folder / "out"


def with_lost_and_found(folder: Path) -> Path:
    (folder / "out" / "lost+found").mkdir(parents=True)
    return folder / "out"


def with_leftovers(folder: Path) -> Path:
    """What a killed run left over, within and beside."""
    for place in (folder / "out" / ".p2l-abc", folder / ".out.p2l-def"):
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(b"half")
    return folder / "out"


def empty(folder: Path) -> Path:
    (folder / "out").mkdir()
    return folder / "out"


def long_name(folder: Path) -> Path:
    return folder / ("m" * 255)


PLACES: dict[str, Callable[[Path], Path]] = {
    "new": lambda folder: folder / "out",
    "empty": empty,
    "no-parent": lambda folder: folder / "a" / "b" / "out",
    "link-to-empty": link_to_empty,
    "link-to-nothing": link_to_nothing,
    "lost-and-found": with_lost_and_found,
    "leftovers": with_leftovers,
    "longest-name": long_name,
    "odd-name": lambda folder: folder / "a\nb \x1b[31m \u202e [*] ?",
}


def written(name: str, make: Callable[[Path], Path], write: Callable[[Path], str]) -> Case:
    def run(folder: Path) -> bool:
        place = make(folder)
        write(place)
        return is_whole(place)

    return Case(name, run, right=bool)


def in_the_working_directory(folder: Path) -> bool:
    (folder / "out").mkdir()
    with contextlib.chdir(folder / "out"):
        saved(Path("."))
        assert Path("config.json").is_file(), "the working directory is another one now"
    return is_whole(folder / "out")


def on_a_mount(folder: Path, *options: str) -> bool:
    with mounted(folder / "out", *options) as place:
        saved(place)
        return is_whole(place)


def on_a_bound_folder(folder: Path) -> bool:
    """On the same device, where os.path.ismount sees no mount."""
    (folder / "volume").mkdir()
    return on_a_mount(folder, "--bind", str(folder / "volume"))


# --- disks that are full, or become so --------------------------------------------------------------------------------


@contextlib.contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    before = sorted(folder.rglob("*"))
    try:
        yield
    finally:
        assert sorted(folder.rglob("*")) == before, sorted(folder.rglob("*"))


def over_quota(folder: Path) -> str:
    with nothing_left(folder), longest_file(5000):
        return saved(folder / "out")


def on_a_small_disk(folder: Path) -> str:
    with small(folder / "disk", 12) as disk, nothing_left(disk):
        return saved(disk / "out")


def on_a_full_disk(folder: Path) -> str:
    with small(folder / "disk", 8) as disk:
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        return command(*(str(disk / "out") if word == "OUT" else word for word in FOLDERS["train"]))


def on_a_read_only_disk(folder: Path) -> str:
    with mounted(folder / "disk", "-t", "tmpfs", "-o", "ro", "tmpfs") as disk:
        return command(*(str(disk / "out") if word == "OUT" else word for word in FOLDERS["add-model"]))


def on_a_read_only_mount(folder: Path) -> str:
    with mounted(folder / "out", "-t", "tmpfs", "-o", "ro", "tmpfs") as disk:
        return command(*(str(disk) if word == "OUT" else word for word in FOLDERS["convert"]))


def picture_over_quota(folder: Path) -> str:
    from p2l_sdk import P2L, pictures

    figure = P2L.from_pretrained(model()).leaderboard("hello").plot().figure
    with nothing_left(folder), longest_file(100):
        pictures.save(figure, folder / "x.png")
    return "written"


# --- somebody else fills the folder while we work: the finished result is kept, and named ----------------------------


def kept(folder: Path) -> str:
    from p2l_sdk.errors import P2LError
    from p2l_sdk.outputs.folders import new_folder

    try:
        with new_folder(folder / "out") as partial:
            (partial / "config.json").write_text("{}")
            (folder / "out").mkdir()
            (folder / "out" / "theirs").write_text("theirs")
    except P2LError as error:
        place = Path(str(error).split("kept in '")[1].split("'")[0])
        assert (place / "config.json").read_text() == "{}"
        assert (folder / "out" / "theirs").read_text() == "theirs"
        raise
    return "written"


def kept_in_place(folder: Path) -> str:
    from p2l_sdk.outputs.folders import new_folder

    (folder / "out").mkdir()
    try:
        with new_folder(folder / "out") as partial:
            for name in ("a.txt", "config.json", "z.txt"):
                (partial / name).write_text("ours")
            (folder / "out" / "config.json").write_text("theirs")
    finally:
        (place,) = (folder / "out").glob("kept-*")
        assert sorted(os.listdir(place)) == ["a.txt", "config.json", "z.txt"]
        assert (folder / "out" / "config.json").read_text() == "theirs"
    return "written"


def read_only_meanwhile(folder: Path) -> str:
    """It becomes read-only before the result is put there, and is as before when it can be written again."""
    from p2l_sdk.errors import P2LError
    from p2l_sdk.outputs.folders import new_folder, require_new

    with mounted(folder / "disk") as disk:
        try:
            with new_folder(disk / "out") as partial:
                (partial / "config.json").write_text("{}")
                assert os.system(f"mount -o remount,ro {disk}") == 0
        except P2LError as error:
            place = Path(str(error).split("kept in '")[1].split("'")[0])
            assert (place / "config.json").read_text() == "{}"
            raise
    return str(require_new(disk / "out"))


def two_at_once(folder: Path) -> str:
    from p2l_sdk.outputs.folders import new_folder, require_new

    with new_folder(folder / "out"):
        require_new(folder / "out")
    return "written"


def half_written(folder: Path) -> str:
    (folder / "out" / ".p2l-abc").mkdir(parents=True)
    return command("leaderboard", "hello", "--model", str(folder / "out"))


def unfinished(folder: Path) -> str:
    (folder / "out" / ".checkpoints" / "checkpoint-5").mkdir(parents=True)
    return command("leaderboard", "hello", "--model", str(folder / "out"))


def unfinished_beside(folder: Path) -> str:
    (folder / "out.checkpoints" / "checkpoint-5").mkdir(parents=True)
    return command("leaderboard", "hello", "--model", str(folder / "out"))


def of_two_long_names(folder: Path) -> bool:
    from p2l_sdk.outputs.folders import new_folder

    with new_folder(folder / ("m" * 200)):
        saved(folder / ("m" * 201))
    return sorted(os.listdir(folder)) == ["m" * 200, "m" * 201]


def without_a_working_directory(folder: Path) -> str:
    (folder / "gone").mkdir()
    with contextlib.chdir(folder):
        os.chdir("gone")
        os.rmdir("../gone")
        return command(*("out" if word == "OUT" else word for word in FOLDERS["add-model"]))


def itself(words: list[str]) -> Callable[[Path], str]:
    return lambda _: command(*(str(model()) if word in ("OUT", "none") else word for word in words))


# --- files ------------------------------------------------------------------------------------------------------------


def costs(output: Path) -> dict[str, float]:
    command("costs", "--model", str(model()), "--output", str(output))
    found: dict[str, float] = json.loads(output.read_text())
    return found


def through_a_link(folder: Path) -> bool:
    (folder / "link").symlink_to("real.json")
    return bool(costs(folder / "link")) and (folder / "link").is_symlink() and (folder / "real.json").is_file()


def over_a_file(folder: Path) -> bool:
    (folder / "x.json").write_text("old")
    (folder / "x.json").chmod(0o600)
    return bool(costs(folder / "x.json")) and (folder / "x.json").stat().st_mode & 0o777 == 0o600


def over_a_mounted_file(folder: Path) -> bool:
    for name in ("x.json", "volume.json"):
        (folder / name).write_text("old, and longer than what is written over it " * 100)
    with contextlib.ExitStack() as stack:
        stack.callback(os.system, f"umount {folder}/x.json")
        assert os.system(f"mount --bind {folder}/volume.json {folder}/x.json") == 0
        return bool(costs(folder / "x.json")) and sorted(os.listdir(folder)) == ["volume.json", "x.json"]


def to_nowhere(_: Path) -> str:
    return command("costs", "--model", str(model()), "--output", "/dev/null")


def file_over_quota(folder: Path) -> str:
    (folder / "x.json").write_text("old")
    with longest_file(4096):
        try:
            from p2l_sdk.outputs.files import write_file

            write_file(folder / "x.json", "x" * 5000)
        finally:
            assert os.listdir(folder) == ["x.json"]
            assert (folder / "x.json").read_text() == "old"
    return "written"


CASES = [
    *(refused(name, words, place, *NO_FOLDERS[place]) for name, words in FOLDERS.items() for place in NO_FOLDERS),
    *(refused(name, words, place, *NO_FILES[place]) for name, words in FILES.items() for place in NO_FILES),
    *(refused(name, words, place, *NO_FOLDERS[place]) for name, words in RESUMED.items() for place in UNFIT),
    refused("plan", FILES["plan"], "file-there", a_file, "exists already; name a new file"),
    *(
        Case(f"{name}-itself", itself(FOLDERS[name]), says="exists already")
        for name in ("add-model", "remove-model", "rename-model", "convert", "merge")
    ),
    *(written(f"saved-{place}", make, saved) for place, make in PLACES.items()),
    *(written(f"renamed-{place}", make, renamed) for place, make in PLACES.items()),
    Case("saved-working-directory", in_the_working_directory, right=bool),
    Case("over-quota", over_quota, says="'.*out' cannot be written: File too large"),
    Case("over-quota-in-place", lambda folder: over_quota(empty(folder).parent), says="out' cannot be .* too large"),
    Case("picture-over-quota", picture_over_quota, says="'.*x.png' cannot be written: File too large"),
    Case("file-over-quota", file_over_quota, says="'.*x.json' cannot be written: File too large"),
    Case("kept", kept, says="finished result is kept in '.*/out.kept-"),
    Case("kept-in-place", kept_in_place, says="json is there by now; the finished result is kept in '.*/out/kept-"),
    Case("two-at-once", two_at_once, says="another process is writing"),
    Case("two-at-once-in-place", lambda folder: two_at_once(empty(folder).parent), says="another process is writing"),
    Case("half-written", half_written, says="is half-written: what fills it is still at work, or was killed"),
    Case("two-long-names-that-begin-alike", of_two_long_names, right=bool),
    Case("unfinished", unfinished, says="is half-written"),
    Case("unfinished-beside", unfinished_beside, says="an unfinished run lies in '.*out.checkpoints'"),
    Case("without-a-working-directory", without_a_working_directory, says="the working directory is gone"),
    Case("file-through-a-link", through_a_link, right=bool),
    Case("file-over-a-file", over_a_file, right=bool),
    Case("file-of-a-long-ending", lambda folder: costs(folder / f"x.{'j' * 250}"), right=bool),
    Case("file-to-nowhere", to_nowhere, right=lambda text: "Costs of" in text),
]
if can_mount():  # as root; tests/training/test_killed.py says so where it cannot
    CASES += [
        Case("saved-mount", on_a_mount, right=bool),
        Case("saved-bound-folder", on_a_bound_folder, right=bool),
        Case("small-disk", on_a_small_disk, says="'.*out' cannot be written: No space left"),
        Case("full-disk", on_a_full_disk, says="'.*out' cannot be written: No space left"),
        Case("read-only-disk", on_a_read_only_disk, says="'.*out' cannot be written: Read-only"),
        Case("read-only-meanwhile", read_only_meanwhile, says="Read-only file system; the finished result is kept"),
        Case("read-only-mount", on_a_read_only_mount, says="'.*out' cannot be written: Read-only"),
        Case("file-over-a-mounted-file", over_a_mounted_file, right=bool),
    ]
