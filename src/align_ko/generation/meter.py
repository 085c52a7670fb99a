"""How far, how fast and how long still: a bar in a terminal, a line every half minute in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 30.0  # seconds between two lines of a log


class Meter:
    """`with Meter(600) as meter:` … `meter.advance()` for each answer; ends with a line such as
    `600 of 600 answers in 3 min (3.0/s)`."""

    def __init__(self, total: int, shown: bool = True) -> None:
        self.total, self.done, self.shown = total, 0, shown
        self.began = self.printed = time.monotonic()
        columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        self.live = shown and sys.stdout.isatty()
        self.progress = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), disable=not self.live, transient=True)
        self.bar = self.progress.add_task("answers", total=total, rate="")

    def __enter__(self) -> Meter:
        self.progress.start()
        return self

    def advance(self) -> None:
        self.done += 1
        now = time.monotonic()
        rate = self.done / max(now - self.began, 1e-3)
        self.progress.update(self.bar, advance=1, rate=f"{rate:.1f}/s")
        if self.shown and not self.live and now - self.printed >= EVERY:
            self.printed = now
            left = (self.total - self.done) / rate
            print(f"{self.done} of {self.total} answers, {rate:.1f}/s, {clock(left)} left", flush=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()
        if self.shown:
            seconds = time.monotonic() - self.began
            rate = self.done / max(seconds, 1e-3)
            print(f"{self.done} of {self.total} answers in {clock(seconds)} ({rate:.1f}/s)", flush=True)


def clock(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
