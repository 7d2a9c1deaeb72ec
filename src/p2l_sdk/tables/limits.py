"""What a file may hold: limits that no honest file meets, and what to do about a file that does.

A table is read piece by piece, so what counts is not the size of a file but what it unpacks to, and how long a single
row is. Each limit is met before the memory is taken. How deep values lie and how many digits they have is limited as in
a model's folder (`p2l_sdk.modeling.limits_p2l`).
"""

from __future__ import annotations

MOST_ROWS = 10_000_000  # of a table of votes or scores, unless the user says otherwise
MOST_RECORDS = 2_000_000  # of a table of something else, such as costs or answers, each held as a dictionary
MOST_COLUMNS = 16_384  # as in Excel
MOST_CELLS = 50_000_000  # of a table that is held in memory as a whole, absent ones included
CELLS_PER_CHUNK = 4_000_000
LONGEST_ROW = 1 << 25  # characters of a line, bytes of a row: 32 MB
LARGEST_DOCUMENT = 1 << 21  # characters of a YAML file: 2 MB take a second or two
LARGEST_JSON = 1 << 30  # characters of a table in one JSON value
MOST_NODES = 1_000_000  # values of a YAML file, each as often as it is referred to
UNPACKED = 1 << 22  # bytes; a compressed file that unpacks to more, and to
PACKED_TIMES = 100  # times its size, is no table


def is_bomb(unpacked: int, packed: int) -> bool:
    """Whether a compressed file unpacks to more than text ever does.

    Args:
        unpacked: bytes so far.
        packed: bytes of the compressed file that they come from.
    """
    return unpacked > UNPACKED and unpacked > PACKED_TIMES * max(packed, 1)


def too_many_rows(most: int) -> str:
    """The message for a table with more rows than `most`."""
    return f"more than {most:,} rows; if that is right, allow more: --max-rows N (in Python: max_rows=N)"
