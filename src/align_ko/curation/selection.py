"""Which rows of a group are taken: at random, the best, or the best of every topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

from align_ko.curation.mixture import draw
from align_ko.curation.topics import spread, topic_words
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


def select(rows: Sequence[Features], taken: Mapping[str, int], seed: int, how: How = "random") -> list[int]:
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
    for group, drawn in by_group.items():
        drawn.sort()
        laps, rest = divmod(taken[group], len(drawn))
        ranked = [place for _, place in drawn]
        for lap in range(laps):
            chosen += [(draw(rows[place].id, seed, lap), place) for place in ranked]
        if how == "quality":
            ranked = _best(rows, drawn)
        elif how == "quality_diverse" and rest:
            ranked = _best_of_topics(rows, drawn, rest)
        chosen += [(draw(rows[place].id, seed, laps), place) for place in ranked[:rest]]
    return [place for _, place in sorted(chosen)]


def _best(rows: Sequence[Features], drawn: Sequence[tuple[bytes, int]]) -> list[int]:
    """Places, the best row first; `drawn` breaks ties."""
    keys = [(goodness(rows[place].score, rows[place].answer_characters, hashed), place) for hashed, place in drawn]
    return [place for _, place in sorted(keys)]


def _best_of_topics(rows: Sequence[Features], drawn: Sequence[tuple[bytes, int]], count: int) -> list[int]:
    """`count` places, no topic crowding out the rest."""
    places = [place for _, place in drawn]
    keys = [goodness(rows[place].score, rows[place].answer_characters, "") for place in places]
    quality = [(-minus) ** SCORE / (1 + off) ** LENGTH for minus, off, _ in keys]
    return [places[number] for number in spread([rows[place].words for place in places], quality, count)]
