"""The one way to write a file of results: `require_file` before the work, `new_file` or `write_file` for the content.

A file is replaced as a whole, by renaming a temporary one beside it. What cannot be renamed over is written in place: a
file that is a mount point or stands in a read-only folder, a pipe, a device.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from p2l_sdk.errors import P2LError
from p2l_sdk.outputs.faults import STREAMS, real_path, write_faults
from p2l_sdk.outputs.leftovers import INSIDE, beside, left_over, remove, temporary

_PAGE = bytes(4096)
_SUFFIX = 12  # most characters of a file's ending that its temporary file has too
_ELSEWHERE = f"p2l-output{INSIDE}"  # in the system's temporary folder: files that will be copied to their place
_NOT_OVER = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES)  # a mount point; somebody else's file


def require_file(path: str | Path, *, new: bool = False, advice: str = "") -> Path:
    """Check that a file can be written, before anything is computed; what killed runs left over there is removed.

    Args:
        path: the file.
        new: whether it must not be there yet.
        advice: end of the message if it cannot be written.

    Returns:
        Its real path, behind symlinks.

    Raises:
        P2LError: it is a folder, exists although it must not, or cannot be written.
    """
    file = real_path(path)
    with write_faults(path, advice):
        if file.is_dir():
            raise P2LError(f"{str(path)!r} is a folder; name a file")
        if new and os.path.lexists(file):
            raise P2LError(f"{str(path)!r} exists already; name a new file")
        if _is_special(file):
            return file
        for parent, prefix in ((file.parent, beside(file)), (Path(tempfile.gettempdir()), _ELSEWHERE)):
            for left in left_over(parent, prefix):
                if left.is_file():
                    remove(left)
        if file.exists() and not os.access(file, os.W_OK):  # a new name in its folder would not ask
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if _only_in_place(file):
            with file.open("r+b"):
                return file
        with tempfile.TemporaryFile(dir=file.parent) as probe:  # tells whether the disk is full, too
            probe.write(_PAGE)
        if not file.exists():  # is its name too long?
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            file.unlink()
    return file


@contextlib.contextmanager
def new_file(path: str | Path, *, new: bool = False, keep: bool = True, advice: str = "") -> Iterator[Path]:
    """Context manager that yields a temporary file to write, which becomes `path` only if the block succeeds.

    Args:
        path, new, advice: as in `require_file`.
        keep: whether a finished file that cannot be put there is kept elsewhere.

    Raises:
        P2LError: as in `require_file`; or the finished file cannot be put there, and the message says where it is.
    """
    file = require_file(path, new=new, advice=advice)
    with contextlib.ExitStack() as stack:
        if _is_special(file) or _only_in_place(file):
            place = Path(tempfile.gettempdir())
            partial = stack.enter_context(temporary(_ELSEWHERE, place, file.suffix[:_SUFFIX]))
        else:
            partial = stack.enter_context(temporary(beside(file), file.parent, file.suffix[:_SUFFIX]))
        try:
            with write_faults(path, advice):
                yield partial
                partial.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
                with partial.open("rb") as opened:
                    os.fsync(opened.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        _put(partial, file, path, new, keep)


def write_file(path: str | Path, content: str | bytes, *, new: bool = False) -> None:
    """Write a file, whole or not at all; arguments and errors as in `new_file`. Text is UTF-8."""
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    with new_file(path, new=new) as partial:
        partial.write_bytes(data)


def _is_special(file: Path) -> bool:
    return str(file).startswith(STREAMS) or (file.exists() and not file.is_file() and not file.is_dir())


def _only_in_place(file: Path) -> bool:
    """Whether a file is there, but its folder takes no new one beside it."""
    if not file.is_file():
        return False
    if not os.access(file.parent, os.W_OK):
        return True
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            return False
    except OSError:
        return True


def _put(partial: Path, file: Path, path: str | Path, new: bool, keep: bool) -> None:
    try:
        if new and os.path.lexists(file):
            raise FileExistsError("it is there by now")
        if _is_special(file) or partial.parent != file.parent:
            _copy(partial, file)
            return
        try:
            os.replace(partial, file)
        except OSError as error:
            if not file.is_file() or error.errno not in _NOT_OVER:
                raise
            _copy(partial, file)
    except OSError as error:
        if not keep:
            partial.unlink(missing_ok=True)
            raise P2LError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
        kept = partial.with_name(f"{partial.name.replace(INSIDE, '.kept-', 1)}")
        with contextlib.suppress(OSError):  # under a name that no later run takes for left over
            os.rename(partial, kept)
        where = kept if kept.exists() else partial
        raise P2LError(
            f"{str(path)!r} cannot be written: {error.strerror or error}; the finished file is kept as {str(where)!r}"
        ) from error


def _copy(partial: Path, file: Path) -> None:
    """Write the content in place, and remove the temporary file."""
    with partial.open("rb") as content, file.open("ab" if _is_special(file) else "wb") as opened:
        shutil.copyfileobj(content, opened)
    partial.unlink()
