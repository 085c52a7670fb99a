"""Kiwi, loaded on first use and only where the rules are unsure; without it the rules decide alone."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _kiwi() -> Any | None:
    try:
        from kiwipiepy import Kiwi
    except ImportError:
        logging.getLogger(__name__).warning("kiwipiepy is not installed; Korean checks go by rules alone")
        return None
    return Kiwi(num_workers=1)


@lru_cache(maxsize=4096)
def tags(text: str) -> tuple[tuple[str, str], ...]:
    """`밥을 먹는다` → (("밥", "NNG"), ("을", "JKO"), ("먹", "VV"), ("는다", "EF")); empty without Kiwi."""
    kiwi = _kiwi()
    if kiwi is None:
        return ()
    return tuple((token.form, str(token.tag)) for token in kiwi.tokenize(text))


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


@lru_cache(maxsize=65536)
def fit(text: str) -> float:
    """Log-probability of the best analysis: 사과를 fits better than 사과을. 0 without Kiwi."""
    kiwi = _kiwi()
    return 0.0 if kiwi is None else float(kiwi.analyze(text, top_n=1)[0][1])


@lru_cache(maxsize=65536)
def ends_in(text: str, end: int, kinds: tuple[str, ...]) -> bool:
    """Has the morpheme that ends at `end` a tag of one of `kinds`? `ends_in("사과를 먹다", 3, ("JK",))` → True."""
    kiwi = _kiwi()
    if kiwi is None:
        return False
    return any(token.end == end and str(token.tag).startswith(kinds) for token in kiwi.tokenize(text))
