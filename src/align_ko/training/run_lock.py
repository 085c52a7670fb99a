"""One run per output folder: two would rotate each other's checkpoints away and mix their results."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from align_ko.errors import UserError, is_first_process

LOCK_FILE = ".training.lock"
_held: list[FileLock] = []  # a lock that nobody refers to is released


def lock_folder(folder: str | Path) -> None:
    """Hold `folder` until this process ends, however it ends: the lock is the kernel's (flock), so SIGKILL frees it too.

    Of several processes (`accelerate launch`) the first of all holds it for all. UserError when another run has it.
    """
    if not is_first_process():
        return
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another run is writing to {folder}", key="training.output_dir", expected="another folder, or wait until it ends"
        ) from None
    _held.append(lock)


def release_folders() -> None:
    """Give all locks of this process back, for a caller that lives on."""
    while _held:
        _held.pop().release()
