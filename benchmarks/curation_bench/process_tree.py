"""Run a command and see how long it takes and how much memory it and its children hold."""

from __future__ import annotations

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


def run_measured(command: Sequence[str], log: Path, cwd: Path, environment: Mapping[str, str] | None = None) -> Usage:
    """Output goes to `log`; a command that fails raises CalledProcessError."""
    peak, most = 0, 1
    done = threading.Event()

    def watch(root: psutil.Process) -> None:
        nonlocal peak, most
        while not done.wait(INTERVAL):
            held, count = 0, 0
            for process in _tree(root):
                held, count = held + _held(process), count + 1
            peak, most = max(peak, held), max(most, count)

    begin = time.perf_counter()
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
    return Usage(seconds, peak / 2**30, most)


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
