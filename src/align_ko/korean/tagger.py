"""Kiwi, loaded on first use and only where the rules are unsure; without it the rules decide alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import pairwise
from typing import Any

# Kiwi reads them as EC inside a text: 어디가 더 높니 중국이랑 미국 중에서
_MAY_CLOSE = frozenset({"니", "으니", "냐", "네", "지", "더라", "거든", "는데", "은데", "ᆫ데", "ᆯ까", "을까", "자"})
_GOES_ON = frozenset({"고", "며", "으며", "면서", "으면서", "거나", "도록"})
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


def morphemes(text: str) -> tuple[tuple[str, str, int], ...]:
    """(form, tag, end) of each: `가요` → (("가", "VV", 1), ("어요", "EF", 2)); empty without Kiwi."""
    return _read(text)[0]


def join(parts: list[tuple[str, str]]) -> str:
    """Morphemes as they are spelt together: `[("돕", "VV-I"), ("어", "EF")]` → `도와`; empty without Kiwi."""
    kiwi = _kiwi()
    return str(kiwi.join(parts)) if kiwi else ""


def wants_more(text: str) -> bool:
    """Does the last morpheme wait for another? `경쟁력을 강화하는` → True (ETM), `경쟁력 강화` → False (NNG)."""
    found = tags(text[-80:])
    return bool(found) and (found[-1][1][:1] == "J" or (found[-1][1][:2] in ("ET", "EC", "MM", "MA") and found[-1][1] != "ETN"))


def final(text: str) -> str:
    """What a sentence stops on: `비행기에 자주 타` → closed, `목소리가 듣고 싶어서` → linked, `우리 동네` → noun.

    `먹을 것도 많지 추석에는` → inner (the closing ending stands inside); empty without Kiwi or where none of these fits.
    """
    found = [(form, tag) for form, tag in tags(text[-60:] + ".") if not tag.startswith("S")]
    if not found:
        return ""
    form, tag = found[-1]
    # Before a full stop 어 and 아 close: 짧은 것만 골라. (read as EC); so does 나 after 않: 너무 이르지 않나?
    if tag == "EF" or (tag == "EC" and (form in ("어", "아") or (form == "나" and text.endswith(("않나", "없나", "있나"))))):
        return "closed"
    if tag == "EC":  # 고 only goes on, and an honorific 시 makes it polite: 드시고 싶다고 하시는데.
        return "" if form in _GOES_ON or any(part in (("시", "EP"), ("으시", "EP")) for part in found[-4:]) else "linked"
    for (ending, kind), (_, after) in pairwise(found):
        if kind == "EF" and not ending.endswith("다"):
            return "inner"
        if kind == "EC" and ending in _MAY_CLOSE and after[0] == "N":
            return "inner"
    return "noun" if (tag[0] in "NJ" and found[-2:-1] != [("기", "ETN")]) or tag in ("XSN", "XR") else ""


def noun_before_yo(text: str) -> bool:
    """Is the 요 at the end added to a noun? `짐은 월세요` → True, `호텔에 맡기세요` → False (an ending of its own)."""
    found = [(form, tag) for form, tag in tags(text[-60:] + ".") if not tag.startswith("S")]
    if len(found) < 2 or found[-1][0] != "요":
        return False
    before = found[-3] if found[-2] == ("이", "VCP") and len(found) > 2 else found[-2]
    return before[1][:2] in ("NN", "NP", "NR") or before[1] in ("XSN", "ETN")


def fit(text: str) -> float:
    """Log-probability of the best analysis: 사과를 fits better than 사과을. 0 without Kiwi."""
    return _read(text)[1]


def ends_in(text: str, end: int, kinds: tuple[str, ...]) -> bool:
    """Has the morpheme that ends at `end` a tag of one of `kinds`? `ends_in("사과를 먹다", 3, ("JK",))` → True."""
    return any(stop == end and tag.startswith(kinds) for _, tag, stop in _read(text)[0])
