"""Kiwi, loaded on first use and only where the rules are unsure; without it the rules decide alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

_ASKED: ContextVar[bool] = ContextVar("kiwi is asked", default=True)


@contextmanager
def rules_alone() -> Iterator[None]:
    """Within it every answer is the one given without Kiwi; Kiwi itself is not even loaded."""
    before = _ASKED.set(False)
    try:
        yield
    finally:
        _ASKED.reset(before)


@lru_cache(maxsize=1)
def _kiwi() -> Any | None:
    try:
        from kiwipiepy import Kiwi
    except ImportError:
        logging.getLogger(__name__).warning("kiwipiepy is not installed; Korean checks go by rules alone")
        return None
    # Without its names of several words (WikiData's) Kiwi takes 316 MiB instead of 502 and loads in half the time; on
    # 1,420 questions from 8,135 answers it said the same. Its other dictionary changes 45 of them, so that one stays.
    return Kiwi(num_workers=1, load_multi_dict=False)


@lru_cache(maxsize=8192)  # some 4 KB each
def _analysis(text: str) -> tuple[tuple[tuple[str, str, int], ...], float]:
    """(form, tag, end) of each morpheme in the best analysis, and its log-probability; () and 0 without Kiwi."""
    kiwi = _kiwi()
    if kiwi is None:
        return (), 0.0
    tokens, probability = kiwi.analyze(text, top_n=1)[0]
    return tuple((token.form, str(token.tag), token.end) for token in tokens), float(probability)


def _read(text: str) -> tuple[tuple[tuple[str, str, int], ...], float]:
    return _analysis(text) if _ASKED.get() else ((), 0.0)


def tags(text: str) -> tuple[tuple[str, str], ...]:
    """`밥을 먹는다` → (("밥", "NNG"), ("을", "JKO"), ("먹", "VV"), ("는다", "EF")); empty without Kiwi."""
    return tuple((form, tag) for form, tag, _ in _read(text)[0])


def wants_more(text: str) -> bool:
    """Does the last morpheme wait for another? `경쟁력을 강화하는` → True (ETM), `경쟁력 강화` → False (NNG)."""
    found = tags(text[-80:])
    return bool(found) and (found[-1][1][:1] == "J" or (found[-1][1][:2] in ("ET", "EC", "MM", "MA") and found[-1][1] != "ETN"))


def closes(text: str) -> bool:
    """Is the last morpheme a sentence ending? `비행기에 자주 타` → True (EF), `우리 동네` → False (NNG)."""
    found = tags(text[-60:] + ".")
    last = [(form, tag) for form, tag in found if not tag.startswith("S")]
    # Before a full stop 어 and 아 close: 짧은 것만 골라. (read as EC)
    return bool(last) and (last[-1][1] == "EF" or last[-1] in (("어", "EC"), ("아", "EC")))


def fit(text: str) -> float:
    """Log-probability of the best analysis: 사과를 fits better than 사과을. 0 without Kiwi."""
    return _read(text)[1]


def ends_in(text: str, end: int, kinds: tuple[str, ...]) -> bool:
    """Has the morpheme that ends at `end` a tag of one of `kinds`? `ends_in("사과를 먹다", 3, ("JK",))` → True."""
    return any(stop == end and tag.startswith(kinds) for _, tag, stop in _read(text)[0])
