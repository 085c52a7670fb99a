"""A DeepSpeed run that was killed while it compiled makes every later one wait for ever, in silence. Say so.

torch guards the building of an extension with a file named `lock`, which only the process that made it removes, and waits for
it without a word (torch/utils/file_baton.py, `FileBaton.wait`).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from align_ko.errors import warn

OLD = 600  # seconds; DeepSpeed's cpu_adam takes about four minutes to compile on two cores


def extension_locks() -> list[Path]:
    """Locks that torch's compilations hold now, or that killed ones left behind."""
    from torch.utils.cpp_extension import get_default_build_root

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    return sorted(root.glob("**/lock"))


def tell_of_locks() -> None:
    """Print, for every lock, how old it is and what to do when nothing compiles any more."""
    for lock in extension_locks():
        try:
            age = time.time() - lock.stat().st_mtime
        except FileNotFoundError:  # a compilation has just ended
            continue
        since = f"{age / 60:.0f} minutes" if age >= 120 else f"{age:.0f} s"
        told = "a killed run has probably left it behind" if age > OLD else "another run may be compiling"
        warn(
            f"{lock} is {since} old; {told}. As long as it is there DeepSpeed waits in silence. "
            f"If nothing is being compiled, remove it: rm '{lock}'"
        )
