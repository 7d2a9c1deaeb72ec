"""A case of the hostile corpus, and the process that runs them, each within 10 s of the processor and 1 GB.

A hostile input may hang or kill the process that reads it, so the tests run the cases in a process of their own:
`python tests/support/hostile.py tests/hostile/numbers_cases.py[::NAME] ...` prints one JSON object per case. The parent
(`outcomes`) gives up on a case that prints nothing in time, says which one, and starts again behind it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import select
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forks import start

SECONDS = 10.0
MEGABYTES = 1024
IMPORTS = ("torch", "transformers", "peft", "pandas", "pyarrow", "openpyxl", "p2l_sdk.cli")  # what most cases need


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        name: in its file, without spaces.
        run: makes the input in the empty folder that it is given, and does with it what a user would. What it returns
            is the answer; `command` in this module runs the command line.
        says: a pattern that the text of the P2LError must match. None: no error, the answer must be right.
        right: tells whether an answer is right; needed where `says` is None.
        quick: whether it runs by default; False for what takes more than a second, which runs with `-m slow`.
    """

    name: str
    run: Callable[[Path], Any]
    says: str | None = None
    right: Callable[[Any], bool] | None = None
    quick: bool = True

    def __post_init__(self) -> None:
        assert (self.says is None) != (self.right is None), f"{self.name}: an error or an answer is expected, not both"


def command(*arguments: str) -> str:
    """What `p2l ARGUMENTS` prints, in this process. Any other exception than these two would be a traceback.

    Raises:
        P2LError: what it says, if its exit status is not 0.
    """
    from p2l_sdk.cli import cli, run
    from p2l_sdk.errors import P2LError

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(lambda: cli(args=list(arguments), prog_name="p2l", standalone_mode=False))
    if status:
        raise P2LError(err.getvalue())
    return out.getvalue() + err.getvalue()


def cases_of(file: Path) -> list[Case]:
    """The cases of a file of the corpus, its `CASES`."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    cases: list[Case] = module.CASES
    assert len({case.name for case in cases}) == len(cases), f"{file.name}: a name is given twice"
    return cases


def fault_of(case: Case, folder: Path) -> str | None:
    """What is wrong with how a case ends, or None."""
    from p2l_sdk.errors import P2LError

    try:
        answer = case.run(folder)
    except P2LError as error:
        if case.says is None:
            return f"refused: {error}"
        return None if re.search(case.says, str(error)) else f"the error does not say {case.says!r}: {error}"
    except BaseException:
        return traceback.format_exc()
    if case.right is None:
        return f"no error, but {answer!r}"[:2000]
    return None if case.right(answer) else f"a wrong answer: {answer!r}"[:2000]


def peak_megabytes() -> float:
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(found.group(1)) / 1024 if found else 0.0


def processor_seconds() -> float:
    """What this process and the children that it has waited for took of the processor."""
    return sum(os.times()[:4])


def reset_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def find(ids: list[str]) -> Iterator[tuple[str, Case]]:
    """Cases by their ids, `FILE::NAME`, or all of a `FILE`."""
    files: dict[str, list[Case]] = {}
    for file, _, name in (each.partition("::") for each in ids):
        if file not in files:
            files[file] = cases_of(Path(file))
        yield from ((f"{file}::{case.name}", case) for case in files[file] if name in ("", case.name))


def run_cases(cases: Iterable[tuple[str, Case]]) -> None:
    """Print a line for each case as it ends."""
    for name, case in cases:
        print(json.dumps({"begins": name}), flush=True)
        reset_peak()
        before, used = peak_megabytes(), processor_seconds()
        with tempfile.TemporaryDirectory() as folder:
            fault = fault_of(case, Path(folder))
        # Work, not waiting, as what other programs take is no fault of a case; one that only waits, the parent ends.
        seconds, grown = processor_seconds() - used, peak_megabytes() - before
        if fault is None and seconds > SECONDS:
            fault = f"took {seconds:.1f} s of the processor"
        if fault is None and grown > MEGABYTES:
            fault = f"took {grown:.0f} MB"
        line = {"name": name, "fault": fault, "seconds": round(seconds, 3), "megabytes": round(grown)}
        print(json.dumps(line), flush=True)


def outcomes(ids: list[str]) -> Iterator[dict[str, Any]]:
    """How each of these cases ends, whatever it does to the process that runs it."""
    left = list(ids)
    while left:
        said, output = os.pipe()
        with open(output, "wb") as end:
            child = start(__file__, *left, output=end, env=os.environ, cwd=tempfile.gettempdir(), imports=IMPORTS)
        stdout = open(said, "rb")  # noqa: SIM115
        noise: list[str] = []
        try:
            while left:
                # More than the limit: the child measures its own time more fairly than we do.
                ready, _, _ = select.select([stdout], [], [], 12 * SECONDS)
                line = stdout.readline().decode(errors="replace") if ready else ""
                if not line:
                    why = f"ended with status {child.wait()}" if ready else "hangs"
                    yield {"name": left.pop(0), "fault": f"the process {why}\n{''.join(noise[-20:])}"}
                    break
                if line.startswith('{"name"'):
                    outcome = json.loads(line)
                    left.remove(outcome["name"])
                    yield outcome
                elif not line.startswith('{"begins"'):
                    noise.append(line)
        finally:
            child.kill()
            child.wait()
            stdout.close()


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    sys.modules["hostile"] = sys.modules["__main__"]  # one Case, whether it is run or imported
    run_cases(find(sys.argv[1:]))
