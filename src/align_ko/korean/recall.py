"""What is known of a word, remembered: an answer's few dozen words are asked about by several detectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Known = TypeVar("Known")
_MOST = 65536


class Recall(dict[str, Known]):
    """A dict that works out what it does not hold: `Recall(len).each(["가", "나다"])` → 1, 2.

    Looked up by `map` without a Python call, which a cached function's bookkeeping makes twice as slow.
    """

    def __init__(self, work_out: Callable[[str], Known]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, word: str) -> Known:
        if len(self) >= _MOST:  # the frequent ones are soon back
            self.clear()
        known = self[word] = self._work_out(word)
        return known

    def each(self, words: Iterable[str]) -> Iterator[Known]:
        return map(self.__getitem__, words)
