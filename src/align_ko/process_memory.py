"""Keep freed memory in the process instead of giving it back to the kernel after every tensor.

glibc maps each block over 32 MB afresh and returns it on free; a training step on the CPU then spends up to half its time in
page faults (measured on the quickstart: 3.4 s a step, 1.9 s with this; docs/experiments.md). Peak memory stays the same,
it is only not returned in between.
"""

from __future__ import annotations

import ctypes
import platform
import resource

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 32 * 2**20  # the highest mmap threshold that glibc accepts on 64 bit


def keep_freed_memory() -> bool:
    """Tell glibc's malloc; True where it took effect. Does nothing on other C libraries or when a GPU does the work."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def peak_memory_gib() -> float:
    """Highest resident memory of this process so far, in GiB."""
    kilo = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilo / 2**20 if platform.system() == "Linux" else kilo / 2**30
