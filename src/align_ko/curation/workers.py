"""Work shared among processes: results come in the order of the input, whatever the number of processes."""

from __future__ import annotations

import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from align_ko.errors import UserError

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


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    num_proc: int,
    initializer: Callable[..., None],
    initargs: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """`function` of each item, in order. With one process nothing is started and all happens here.

    `function`, `initializer` and their arguments go to fresh processes (spawn), so they must be importable. Few items are
    read ahead. Raises UserError when a process was killed; Ctrl-C ends the processes with this one.
    """
    if num_proc <= 1:
        initializer(*initargs)
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(num_proc, get_context("spawn"), _start, (initializer, initargs))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD * num_proc:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        problem = f"one of {num_proc} worker processes was killed, most likely for want of memory"
        raise UserError(problem, key="num_proc", expected="fewer processes, 1 for none") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the first one decides
    initializer(*initargs)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # rows hold no cycles: looking for some after every 700 objects is a waste
