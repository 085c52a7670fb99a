"""Run a command and see how long it takes and how much memory it and its children hold."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL = 0.2  # seconds between two looks


@dataclass(frozen=True)
class Usage:
    seconds: float
    peak_gib: float
    """Highest sum over the tree of PSS: pages that processes share count once."""
    processes: int
    """Most processes seen at one time."""
    largest_gib: float = 0.0
    """The most that one of them held."""
    cpu_seconds: float = 0.0
    """Of all processes that it waited for: tells speeds apart where the cores are shared."""


def run_measured(command: Sequence[str], log: Path, cwd: Path, environment: Mapping[str, str] | None = None) -> Usage:
    """Output goes to `log`; a command that fails raises CalledProcessError."""
    peak, most, largest = 0, 1, 0
    done = threading.Event()

    def watch(root: psutil.Process) -> None:
        nonlocal peak, most, largest
        while not done.wait(INTERVAL):
            held, count = 0, 0
            for process in _tree(root):
                own = _held(process)
                held, count, largest = held + own, count + 1, max(largest, own)
            peak, most = max(peak, held), max(most, count)

    begin, before = time.perf_counter(), os.times()
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=cwd, env=environment)
        watcher = threading.Thread(target=watch, args=(psutil.Process(child.pid),), daemon=True)
        watcher.start()
        status = child.wait()
    seconds = time.perf_counter() - begin
    done.set()
    watcher.join()
    if status:
        raise subprocess.CalledProcessError(status, list(command), output=log.read_text(encoding="utf-8", errors="replace"))
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Usage(seconds, peak / 2**30, most, largest / 2**30, cpu)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _held(process: psutil.Process) -> int:
    """PSS where the system tells it, else resident memory; 0 for a process that has just ended."""
    try:
        memory = process.memory_full_info()
        return int(getattr(memory, "pss", memory.rss))
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return 0
