"""One run at a time in a folder, its stages included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_run(folder: Path) -> Iterator[tuple[int, ...]]:
    """Hold the folder's lock; yields the file descriptors that a stage must keep open to hold it too.

    A run killed with SIGKILL leaves its stage behind, which goes on writing. The stage inherited the lock, so the same
    command again waits until it has ended, and then finds its work done. Nothing is locked on Windows.
    """
    try:
        import fcntl
    except ImportError:
        yield ()
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run, or a stage that a killed one left behind, is at work in {folder}: waiting", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield (handle,)
    finally:
        os.close(handle)
