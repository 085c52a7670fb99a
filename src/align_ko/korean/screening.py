"""Cheap tests that most answers fail: what cannot hold a loop is not searched for one.

Each is a condition that follows from the detector's own, so it never hides a finding (tests/test_korean_speed.py
compares both ways).
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from operator import eq


def may_loop(words: list[str], least: int) -> bool:
    """Can some of `words` come `least` (three or more) times in a row? One word, two, or more by their triples."""
    back = len(words) - len(set(words))  # in a loop all rounds but the first are made of words that came before
    if back < least - 1:
        return False
    beside = any(map(eq, words, words[1:]))
    if not beside and back < 2 * least - 2:
        return False
    every_other = any(map(eq, words, words[2:]))
    if not beside and not every_other and back < 3 * least - 5:
        return False
    triples = list(zip(words, words[1:], words[2:], strict=False))
    if beside and any(first == second == third for first, second, third in triples):
        return True
    if every_other and any(map(eq, triples, triples[2:])):
        return True
    # Three words thrice are seven triples, three of them different, one of them thrice; of more words more come back.
    if len(triples) - len(set(triples)) < 3 * least - 5:
        return False
    often = {triple: [] for triple, count in Counter(triples).items() if count >= least}  # type: dict[object, list[int]]
    for place, triple in enumerate(triples):
        if triple in often:
            often[triple].append(place)
    return any(len(places) > 30 or _evenly(places) for places in often.values())


def _evenly(places: list[int]) -> bool:
    """Do three of `places` stand equally far apart?"""
    known = set(places)
    return any(2 * second - first in known for first, second in combinations(places, 2))


def may_run(words: list[str]) -> bool:
    """Can a word hold a run of seven equal letters, or four equal pieces of two? Then six of its letters come back."""
    if max(map(len, words), default=0) < 7:
        return False
    return any(len(word) - len(set(word)) >= 6 for word in words if len(word) >= 7)
