"""How long each step of a run took."""

from __future__ import annotations

import time
from typing import Any


class Stopwatch:
    """`watch.lap("read", 191_641)` notes the seconds since the last lap and the rows that went through."""

    def __init__(self) -> None:
        self.began = self._last = time.perf_counter()
        self.steps: list[dict[str, Any]] = []

    def lap(self, step: str, rows: int) -> None:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        rate = round(rows / max(seconds, 1e-3))
        self.steps.append({"step": step, "seconds": round(seconds, 2), "rows": rows, "rows_per_second": rate})

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.began
