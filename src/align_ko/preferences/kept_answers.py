"""What a costly judge said, kept on disk as it comes: a killed run asks nothing twice."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

from align_ko.records import drop_torn_line, read_jsonl


def key_of(*parts: Any) -> str:
    """16 hex digits for what a verdict depends on (model, rubric, prompt, answers)."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Kept:
    """A dict on disk: one JSON line `{"key": …, …}` for each entry, appended as a whole; threads may share it."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {}
        drop_torn_line(file)
        if file.is_file():
            self._rows = {row["key"]: row for row in read_jsonl(file)}

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._rows[key]

    def add(self, key: str, **row: Any) -> None:
        with self._lock:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"key": key, **row}, ensure_ascii=False) + "\n")
            self._rows[key] = {"key": key, **row}
