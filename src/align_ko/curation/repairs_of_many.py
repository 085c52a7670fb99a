"""`repair` for many conversations at once. Nearly all are clean, and one look at all their code points tells which."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.code_points import code_points, digits, groups, matching
from align_ko.curation.personal_data import mask
from align_ko.curation.repairs import DEFAULT_REPAIRS, FULL_WIDTH, ODD, REPAIRS, repair
from align_ko.records import Message

_WIDE, _ODD, _DIGIT, _AT, _SPACE, _BREAK, _WHITE = 1, 2, 4, 8, 16, 32, 64
_DIGITS = 9  # the fewest in anybody's number that personal_data finds
Places = NDArray[np.bool_]


def repair_each(
    conversations: Sequence[Sequence[Message]], names: Sequence[str] = DEFAULT_REPAIRS
) -> list[tuple[list[Message], tuple[str, ...]]]:
    """`repair(messages, names)` of each conversation, in order.

    For `particles`, which needs what `assess` found, call `repair`.

    >>> asked = {"role": "user", "content": "수도는?"}
    >>> answers = [[asked, {"role": "assistant", "content": text}] for text in ("서울이에요.", "서울이에요. ")]
    >>> [changed for _, changed in repair_each(answers)]
    [(), ('white_space',)]
    """
    texts = [message["content"] for messages in conversations for message in messages]
    answers = [message["role"] == "assistant" for messages in conversations for message in messages]
    changing = _may_change(texts, names, np.array(answers, dtype=np.bool_)).tolist()
    others = [REPAIRS[name] for name in REPAIRS if name in names and name not in _SCREENED]
    repaired: list[tuple[list[Message], tuple[str, ...]]] = []
    end = 0
    for messages in conversations:
        start, end = end, end + len(messages)
        clean = not any(changing[start:end]) and all(
            other(texts[place]) == texts[place] for place in range(start, end) if answers[place] for other in others
        )
        repaired.append((list(messages), ()) if clean else repair(messages, names))
    return repaired


_SCREENED = frozenset({"nfc", "white_space", "full_width", "personal_data"})


def _may_change(texts: Sequence[str], names: Sequence[str], answers: Places) -> Places:
    """For each text, whether one of _SCREENED may change it; where not, each of them would return it as it is."""
    found = np.zeros(len(texts), dtype=np.bool_)
    first = 0
    for group in groups(texts):
        here = slice(first, first + len(group))
        first += len(group)
        white_space, full_width, numbers = _seen(group)
        if "nfc" in names:
            found[here] |= [not unicodedata.is_normalized("NFC", text) for text in group]
        if "white_space" in names:
            found[here] |= white_space
        if "full_width" in names:
            found[here] |= full_width & answers[here]
        if "personal_data" in names:
            numbers |= ["여권" in text for text in group]
            for place in np.flatnonzero(numbers).tolist():  # dates, for the most part
                numbers[place] = mask(group[place]) != group[place]
            found[here] |= numbers
    return found


def _seen(texts: Sequence[str]) -> tuple[Places, Places, Places]:
    """Where white_space, full_width and personal_data may find something (but for a passport's name)."""
    codes = code_points(texts, 1)
    apart = np.flatnonzero(codes == 0)
    signs = _signs().take(codes)
    seen = np.bitwise_or.reduceat(signs, apart[:-1])
    numbers = np.add.reduceat((signs & _DIGIT).astype(np.bool_), apart[:-1], dtype=np.int64)
    space, line_break = (signs & _SPACE).astype(np.bool_), (signs & _BREAK).astype(np.bool_)
    gaps = space[:-1] & (space[1:] | line_break[1:])
    gaps[:-1] |= line_break[:-2] & line_break[1:-1] & line_break[2:]
    ends = (signs[apart[:-1] + 1] | signs[apart[1:] - 1]) & _WHITE
    white_space = (seen & _ODD | ends) > 0
    white_space[apart.searchsorted(np.flatnonzero(gaps)) - 1] = True
    return white_space, (seen & _WIDE) > 0, (seen & _AT > 0) | (numbers >= _DIGITS)


@cache
def _signs() -> NDArray[np.uint8]:
    """For every code point, what it may be to a repair."""
    table = digits() * np.uint8(_DIGIT)
    for sign, pattern in ((_WIDE, FULL_WIDTH.pattern), (_ODD, rf"\t|{ODD.pattern}"), (_WHITE, r"\s")):
        table |= matching(pattern) * np.uint8(sign)
    for sign, letter in ((_AT, "@"), (_SPACE, " "), (_BREAK, "\n")):
        table[ord(letter)] |= sign
    return table
