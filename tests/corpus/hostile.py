"""Rows with everything that is wrong with real corpora, and what must become of each."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mads.types import Status

MAX = 4 * 1024 * 1024

# Line, its status, its text when it is ok.
HOSTILE: list[tuple[bytes, Status, str]] = [
    (b'{"text": "plain"}', Status.OK, "plain"),
    (b'{"text": ""}', Status.EMPTY, ""),
    (b'{"text": " \\n\\t\\u3000"}', Status.EMPTY, ""),
    (b'{"body": "elsewhere"}', Status.NO_TEXT, ""),
    (b'{"text": null}', Status.NO_TEXT, ""),
    (b'{"text": 17}', Status.NO_TEXT, ""),
    (b'{"text": ["a"]}', Status.NO_TEXT, ""),
    (b'{"text": {"text": "a"}}', Status.NO_TEXT, ""),
    (b'"text"', Status.NO_TEXT, ""),
    (b"[1]", Status.NO_TEXT, ""),
    (b'{"text": "caf\xe9"}', Status.UNDECODABLE, ""),
    (b'{"text": "half', Status.UNDECODABLE, ""),
    (b"", Status.EMPTY, ""),
    (b"not json", Status.UNDECODABLE, ""),
    (b"[" * 100_000, Status.UNDECODABLE, ""),
    (b'{"text": "x", "n": ' + b"1" * 5000 + b"}", Status.UNDECODABLE, ""),
    (b'{"text": "a\\ud83d."}', Status.OK, "a?."),
    (b'{"text": "nul \\u0000 here"}', Status.OK, "nul \x00 here"),
    (b'{"text": "carriage"}\r', Status.OK, "carriage"),
    (b'{"text": "' + b"a" * (5 * 1024 * 1024) + b'"}', Status.TOO_LONG, ""),
    (b'{"text": "' + b"a" * (12 * 1024 * 1024) + b'"}', Status.TOO_LONG, ""),
    (b'{"text": "' + b"a" * MAX + b'"}', Status.OK, "a" * MAX),
    (b'{"text": "' + "é".encode() * (MAX // 2) + b'x"}', Status.TOO_LONG, ""),
    (b" \t\r", Status.EMPTY, ""),
    (b'{"text": "last"}', Status.OK, "last"),
]


def invalid_strings(values: list[bytes | None]) -> pa.Array:
    """Return a text column whose bytes nobody checked."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), raw.null_count)


def hostile_parquet(path: Path) -> None:
    """Write texts plain and nested, one of them not UTF-8, over several row groups."""
    texts = invalid_strings([b"one", b"\xff\xfe", b"", None, b"five", b"a" * 50, b"seven"])
    table = pa.table(
        {
            "text": texts,
            "doc": pa.StructArray.from_arrays([texts, pa.array(range(7))], ["body", "n"]),
            "tags": pa.array([["x"]] * 7),
            "time": pa.array(range(7), pa.timestamp("ns")),
            "a.b": [f"dotted {i}" for i in range(7)],
            "n": range(7),
        }
    )
    pq.write_table(table, path, row_group_size=3)


PARQUET_STATUSES = [
    Status.OK,
    Status.UNDECODABLE,
    Status.EMPTY,
    Status.NO_TEXT,
    Status.OK,
    Status.TOO_LONG,
    Status.OK,
]
