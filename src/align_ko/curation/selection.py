"""Which rows of a group are taken: at random, the best, or the best of every topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

from align_ko.curation.mixture import draw
from align_ko.curation.topics import spread, topic_words
from align_ko.curation.workers import SideBySide, one_by_one
from align_ko.errors import UserError, nearest
from align_ko.recipe import Selection

__all__ = ["SELECTIONS", "SWEET_SPOT", "Features", "How", "goodness", "select", "topic_words"]

How = Selection
SELECTIONS: tuple[How, ...] = get_args(How)
SWEET_SPOT = (150, 500)  # characters of an answer: long enough to say something, short enough to stay natural
SCORE, LENGTH = 8, 2  # powers: against variety, a score of 0.9 counts 0.43, an answer half or double the sweet spot 0.25


class Features(NamedTuple):
    """What the selection knows of a row."""

    id: str
    group: str
    score: float  # the mean of `assess` over its answers
    answer_characters: int  # of all its answers
    words: bytes = b""  # topic_words of its question, for quality_diverse


def goodness(score: float, answer_characters: int, tie: str | bytes) -> tuple[float, float, str | bytes]:
    """A key that sorts the best row first: by score to two decimals, then by nearness to the sweet spot, then by `tie`.

    >>> sorted([goodness(0.9, 200, "a"), goodness(1.0, 75, "b"), goodness(1.0, 300, "c"), goodness(1.0, 1500, "d")])
    [(-1.0, 0.0, 'c'), (-1.0, 1.0, 'b'), (-1.0, 2.0, 'd'), (-0.9, 0.0, 'a')]
    """
    shortest, longest = SWEET_SPOT
    off = max(shortest / max(answer_characters, 1), answer_characters / longest, 1.0) - 1.0  # half or double is 1 away
    return -round(score, 2), off, tie


def select(
    rows: Sequence[Features], taken: Mapping[str, int], seed: int, how: How = "random", side_by_side: SideBySide = one_by_one
) -> list[int]:
    """The places in `rows` of `taken[group]` rows of each group, shuffled. A group asked for more than it has starts over.

    What is taken and its order hang on the seed and the rows' ids, never on the order in which they came.
    """
    if how not in SELECTIONS:
        raise UserError(
            f"{how!r} is no selection", key="selection", expected=", ".join(SELECTIONS), nearest=nearest(how, SELECTIONS)
        )
    by_group: dict[str, list[tuple[bytes, int]]] = {}
    for place, row in enumerate(rows):
        if taken.get(row.group):
            by_group.setdefault(row.group, []).append((draw(row.id, seed, 0), place))
    chosen: list[tuple[bytes, int]] = []
    parts: list[tuple[list[tuple[bytes, int]], int, int]] = []  # rows of a group, how many of them, in which lap
    for group, drawn in by_group.items():
        drawn.sort()
        laps, rest = divmod(taken[group], len(drawn))
        for lap in range(laps):
            chosen += [(draw(rows[place].id, seed, lap), place) for _, place in drawn]
        if rest:
            parts.append((drawn, rest, laps))
    if how == "quality_diverse":
        # Each group on its own, the largest here: it takes longest, and need not be sent anywhere.
        parts.sort(key=lambda part: -len(part[0]))
        orders = side_by_side(spread, [(*_topics_and_quality(rows, drawn), rest) for drawn, rest, _ in parts])
        ranked = [[drawn[number][1] for number in order] for (drawn, _, _), order in zip(parts, orders, strict=True)]
    else:
        ranked = [_best(rows, drawn) if how == "quality" else [place for _, place in drawn] for drawn, _, _ in parts]
    for (_, rest, laps), places in zip(parts, ranked, strict=True):
        chosen += [(draw(rows[place].id, seed, laps), place) for place in places[:rest]]
    return [place for _, place in sorted(chosen)]


def _best(rows: Sequence[Features], drawn: Sequence[tuple[bytes, int]]) -> list[int]:
    """Places, the best row first; `drawn` breaks ties."""
    keys = [(goodness(rows[place].score, rows[place].answer_characters, hashed), place) for hashed, place in drawn]
    return [place for _, place in sorted(keys)]


def _topics_and_quality(rows: Sequence[Features], drawn: Sequence[tuple[bytes, int]]) -> tuple[list[bytes], list[float]]:
    """What `spread` asks of a group's rows, in the order in which they were drawn."""
    keys = [goodness(rows[place].score, rows[place].answer_characters, "") for _, place in drawn]
    return [rows[place].words for _, place in drawn], [(-minus) ** SCORE / (1 + off) ** LENGTH for minus, off, _ in keys]
