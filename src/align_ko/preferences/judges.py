"""How good is one candidate? Natural Korean first, then: to the point, close to the reference, and rich in words."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from align_ko.korean import assess, is_relevant

_WORD = re.compile(r"[가-힣]+|[A-Za-z]+|\d+")


@dataclass(frozen=True)
class Judgement:
    natural: bool
    faults: list[str]
    naturalness: float  # assess's score, 0..1
    relevant: bool
    closeness: float  # to the reference, 0..1
    variety: float  # 0..1; low where words or phrases come again and again
    score: float  # what candidates are ranked by, 0..1


def variety(text: str) -> float:
    """1 minus the share of words that stand in a word pair or as a two-syllable stem already used; a soft form of `filler`.

    Good written answers score above .8; an answer that turns on one phrase falls below .6:
    "'들었을 때'가 맞다면 '들었을 때'가 맞아요. '들었을 때'는 …" → .4
    """
    words = _WORD.findall(text)
    if len(words) < 4:
        return 1.0
    pairs = list(pairwise(words))
    repeated_pairs = 1 - len(set(pairs)) / len(pairs)
    stems = [word[:2] for word in words if len(word) >= 2]
    counts = Counter(stems)
    crowding = sum(n - 2 for n in counts.values() if n > 2) / max(len(stems), 1)  # a topic word may come twice
    return max(0.0, 1 - 1.5 * repeated_pairs - crowding)


def closeness(text: str, reference: str) -> float:
    """Character-trigram F1 against the reference; 0 where nothing is shared."""

    def trigrams(value: str) -> Counter[str]:
        flat = "".join(_WORD.findall(value))
        return Counter(flat[i : i + 3] for i in range(len(flat) - 2))

    a, b = trigrams(text), trigrams(reference)
    shared = sum((a & b).values())
    return 2 * shared / max(sum(a.values()) + sum(b.values()), 1)


def judge(prompt: str, text: str, finished: bool, reference: str) -> Judgement:
    """All judgements of one candidate.

    Ranking: naturalness .4, variety .3, relevance .15, closeness .15 (doubled, it is small).
    """
    assessment = assess(text, prompt, finished)
    relevant, near, rich = is_relevant(prompt, text), closeness(text, reference), variety(text)
    score = 0.4 * assessment.score + 0.3 * rich + 0.15 * relevant + 0.15 * min(1.0, 2 * near)
    return Judgement(assessment.natural, assessment.codes, assessment.score, relevant, near, rich, score)
