"""What no single answer shows: distinctness, collapse and length over many answers."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

_WORD = re.compile(r"[가-힣]+|[a-zA-Z]+|\d+")
NEAR_IDENTICAL = 0.8


@dataclass(frozen=True)
class SetMeasures:
    answers: int
    distinct: float
    collapse: float
    median_characters: float


def _prompts_key(prompt: str) -> str:
    return " ".join(prompt.split())


def _trigrams(text: str) -> frozenset[str]:
    flat = "".join(_WORD.findall(text.lower()))
    return frozenset(flat[i : i + 3] for i in range(max(1, len(flat) - 2)))


def distinct(prompts: list[str], responses: list[str]) -> float:
    """Share of answers that are not near-identical (character-trigram Jaccard ≥ 0.8) to an answer to another prompt."""
    keys = [_prompts_key(prompt) for prompt in prompts]
    grams = [_trigrams(response) for response in responses]
    index: dict[str, list[int]] = defaultdict(list)
    copies: set[int] = set()
    for i, gram in enumerate(grams):
        shared: dict[int, int] = defaultdict(int)
        for piece in gram:
            for j in index[piece]:
                shared[j] += 1
            index[piece].append(i)
        for j, both in shared.items():
            if keys[i] != keys[j] and both / (len(gram) + len(grams[j]) - both) >= NEAR_IDENTICAL:
                copies |= {i, j}
    return 1.0 - len(copies) / len(responses) if responses else 1.0


def collapse_shares(prompts: list[str], responses: list[str], others: int = 3) -> list[float | None]:
    """Per answer the share of its word trigrams that also stand in answers to at least `others` other prompts.

    None where an answer has fewer than three words.
    """
    where: dict[tuple[str, ...], set[str]] = defaultdict(set)
    rows = []
    for prompt, response in zip(prompts, responses, strict=True):
        words = response.split()
        grams = list(zip(words, words[1:], words[2:], strict=False))
        key = _prompts_key(prompt)
        rows.append((key, grams))
        for gram in grams:
            where[gram].add(key)
    return [sum(len(where[g] - {key}) >= others for g in grams) / len(grams) if grams else None for key, grams in rows]


def collapse(prompts: list[str], responses: list[str], others: int = 3) -> float:
    """Mean share of an answer's word trigrams that also stand in answers to at least `others` other prompts."""
    shares = [share for share in collapse_shares(prompts, responses, others) if share is not None]
    return sum(shares) / len(shares) if shares else 0.0


def measure(prompts: list[str], responses: list[str]) -> SetMeasures:
    """All set measures of one model's answers, in the order of `prompts`."""
    return SetMeasures(
        answers=len(responses),
        distinct=distinct(prompts, responses),
        collapse=collapse(prompts, responses),
        median_characters=float(median(map(len, responses))) if responses else 0.0,
    )
