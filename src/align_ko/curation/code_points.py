"""Many texts as one array of code points: numpy costs as much for one text of a sentence or two as for fifty of them.

Texts stand one behind the other with noughts between. What is asked of them (which are letters, what do they decompose to)
is looked up in tables of all 1,114,112 code points, made once per process.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

GROUP = 32_000  # characters at a time: what is made of them (half a megabyte an array) stays in the cache of a core
_COUNT = 0x110000
_APART = "\0"  # no letter, and no sign of white space or of anything else that texts hold


def groups(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in order, some at a time: no more than GROUP characters unless a single one is longer."""
    first = size = 0
    for place, text in enumerate(texts):
        size += len(text) + 1
        if size > GROUP and place > first:
            yield texts[first:place]
            first, size = place, len(text) + 1
    if first < len(texts):
        yield texts[first:]


def code_points(texts: Sequence[str], apart: int) -> NDArray[np.uint32]:
    """All texts in one array, `apart` noughts before the first, between two and behind the last."""
    between = _APART * apart
    joined = between.join(["", *texts, ""])
    if joined.count(_APART) > apart * (len(texts) + 1):
        joined = between.join(["", *(text.replace(_APART, " ") for text in texts), ""])
    return np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32, copy=False)


def jamo(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The letters and digits of the canonical decomposition (NFD) of each code point; of a nought three ones.

    Letter by letter, because marks are no letters and only they change places when a text is decomposed.
    """
    parts = _decomposed().take(codes, axis=0).ravel()
    return parts.compress(parts != 0)


def matching(pattern: str) -> NDArray[np.bool_]:
    """For every code point, whether the regular expression of one character matches it. About 10 ms, so keep it.

    >>> matching("[0-9]").nonzero()[0].tolist() == list(range(0x30, 0x3A))
    True
    """
    table = np.zeros(_COUNT, dtype=np.bool_)
    for run in re.finditer(f"(?:{pattern})+", _every()):
        table[run.start() : run.end()] = True
    return table


@cache
def digits() -> NDArray[np.bool_]:
    """For every code point, whether it is a decimal digit, in whatever script."""
    return matching(r"\d")


@cache
def _letter_or_nought() -> NDArray[np.bool_]:
    table = matching(r"[^\W_]")
    table[0] = True
    return table


@cache
def _every() -> str:
    return np.arange(_COUNT, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")


@cache
def _decomposed() -> NDArray[np.uint32]:
    """A row of three for every code point, filled up with noughts. Of 13 MB two are ever touched: the rest stays unused."""
    table = np.zeros((_COUNT, 3), dtype=np.uint32)
    letters = np.flatnonzero(_letter_or_nought())
    table[letters, 0] = letters
    for code in letters.tolist():
        letter = chr(code)
        parts = unicodedata.normalize("NFD", letter)
        if parts != letter:
            kept = [ord(part) for part in parts if part.isalnum()]
            table[code, : len(kept)] = kept
    table[0] = 1
    return table
