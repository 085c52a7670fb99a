"""Rows on disk by key, appended as they are made, so that a killed run repeats only what it was making. A key is a hash of
everything that its row depends on, so nothing has to be deleted when a setting changes."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Collection, Iterator
from glob import escape
from pathlib import Path
from typing import Any

from align_ko.errors import UserError

StoredRow = dict[str, Any]


def row_key(**parts: object) -> str:
    """16 hex digits that change with every part, each of which JSON can hold; the order of parts does not matter."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """One JSON line `{"key": …, …}` per row. Threads may share a store; each process appends to a shard of its own."""

    def __init__(self, file: Path, rank: int = 0) -> None:
        self.file, self.own = file, shard(file, rank)
        self.rows: dict[str, StoredRow] = {}
        self.unused = 0  # rows on disk under keys that were not asked for
        self._lock = threading.Lock()

    def load(self, keys: Collection[str]) -> Store:
        """Read the rows of `keys` from all shards, of a key the last one, and count the others."""
        wanted, self.unused = set(keys), 0
        for path in shards(self.file):
            for row in whole_rows(path):
                key = row.pop("key", None)
                if key in wanted:
                    self.rows[key] = row
                else:
                    self.unused += 1
        return self

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> StoredRow:
        return self.rows[key]

    def add(self, key: str, **row: object) -> None:
        with self._lock:
            append_row(self.own, {"key": key, **row})
            self.rows[key] = row

    def describe_unused(self) -> str:
        return f"{self.file}: {self.unused:,} rows of other prompts, weights or settings are not used" if self.unused else ""


def append_row(file: Path, row: StoredRow) -> None:
    """Append one JSON line. Half a line that a killed run left at the end is removed; a whole one without its break stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab+") as out:
        if out.tell():
            out.seek(-1, os.SEEK_END)
            if out.read(1) != b"\n":
                start = (data := file.read_bytes()).rfind(b"\n") + 1
                try:
                    json.loads(data[start:])
                    out.write(b"\n")
                except ValueError:
                    out.truncate(start)
        out.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def shard(file: Path, rank: int) -> Path:
    """`candidates.jsonl` for the first process, `candidates.rank-1.jsonl` for the second."""
    return file if rank == 0 else file.with_suffix(f".rank-{rank}{file.suffix}")


def shards(file: Path) -> list[Path]:
    """Every shard on disk, also those of a run with more processes."""
    return [path for path in [file, *sorted(file.parent.glob(f"{escape(file.stem)}.rank-*{file.suffix}"))] if path.is_file()]


def whole_rows(path: Path) -> Iterator[StoredRow]:
    """The rows of a shard, without half a line at its end."""
    # Not str.splitlines: an answer may contain U+2028, which it takes for the end of a line.
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                if not line.endswith("\n"):
                    return
                raise UserError(f"not valid JSON: {error.msg}", file=path, line=number) from None
