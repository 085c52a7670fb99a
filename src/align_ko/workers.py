"""Work shared among processes: results come in the order of the input, whatever the number of processes."""

from __future__ import annotations

import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Literal, TypeVar

from align_ko.errors import UserError
from align_ko.process import end_with

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 3  # batches that wait for each process: enough to keep it busy, few enough that reading never fills the memory


def cores() -> int:
    """Processors that this process may use (a container may allow fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """`[1, 2, 3]` by two → `[1, 2]`, `[3]`."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


class Workers(AbstractContextManager["Workers"]):
    """Processes that take work from this one and end with it; with `num_proc` 1 none is started and all happens here. Functions
    and arguments are pickled, so they must be importable; the processes are fresh ones (`spawn`) or begin with the memory of
    this one (`fork`: at once). UserError for a process that was killed."""

    def __init__(
        self,
        num_proc: int,
        initializer: Callable[..., None],
        initargs: tuple[object, ...] = (),
        method: Literal["spawn", "fork"] = "spawn",
    ) -> None:
        self._num_proc = num_proc
        self._pool: ProcessPoolExecutor | None = None
        if num_proc <= 1:
            initializer(*initargs)
        else:
            self._pool = ProcessPoolExecutor(num_proc, get_context(method), _start, (os.getpid(), initializer, initargs))

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def ordered_map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function` of each item, in order. Few items are read ahead."""
        if not self._pool:
            yield from map(function, items)
            return
        waiting: deque[Future[Result]] = deque()
        with self._said():
            for item in items:
                waiting.append(self._pool.submit(function, item))
                if len(waiting) > AHEAD * self._num_proc:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def side_by_side(self, function: Callable[..., Result], calls: Sequence[tuple[object, ...]]) -> list[Result]:
        """`function(*call)` of each, in order: the first here, where its arguments are, the others elsewhere meanwhile."""
        if not self._pool or len(calls) < 2:
            return [function(*call) for call in calls]
        with self._said():
            others = [self._pool.submit(function, *call) for call in calls[1:]]
            return [function(*calls[0]), *(other.result() for other in others)]

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool:
            problem = f"one of {self._num_proc} worker processes was killed, most likely for want of memory"
            raise UserError(problem, expected="more free memory, or fewer processes (curation: num_proc)") from None


@contextmanager
def few_collections() -> Iterator[None]:
    before = gc.get_threshold()
    _look_for_cycles_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _start(parent: int, initializer: Callable[..., None], initargs: tuple[object, ...]) -> None:
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the first one decides
    initializer(*initargs)
    _look_for_cycles_rarely()


def _look_for_cycles_rarely() -> None:
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # rows hold no cycles: looking for some after every 700 objects is a waste
