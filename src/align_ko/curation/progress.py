"""The progress bars of a curation run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from align_ko.curation.sources import RawRow, local_files, read_source


class _RateColumn(ProgressColumn):
    """`12,400 rows, 5,210/s`."""

    def render(self, task: Task) -> Text:
        rows = task.fields.get("rows", 0)
        return Text(f"{rows:>9,} rows {rows / max(task.elapsed or 0.0, 1e-3):>8,.0f}/s")


def progress_bars(console: Console) -> Progress:
    """One bar per source: name, bar, rows and rows per second, time left. Gone when all is read."""
    columns = (TextColumn("{task.description:<20}"), BarColumn(), _RateColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def read_with_progress(progress: Progress, name: str, path: str, split: str) -> Iterator[RawRow]:
    """The source's rows, with a bar that moves by bytes: the number of rows is not known before they are read."""
    total = sum(file.stat().st_size for file in local_files(path)) or None  # None: a hub data set
    task = progress.add_task(name, total=total, rows=0)
    advance: Callable[[int], None] = lambda count: progress.advance(task, count)  # noqa: E731
    number = 0
    for number, raw in enumerate(read_source(path, split, advance), 1):
        if number % 100 == 0:
            progress.update(task, rows=number)
        yield raw
    progress.update(task, rows=number)
