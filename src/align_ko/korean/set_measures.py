"""What no single answer shows: distinctness, collapse, relevance and length over many answers."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

_WORD = re.compile(r"[가-힣]+|[a-zA-Z]+|\d+")
_HANGUL_RUN = re.compile(r"[가-힣]+")
_LATIN = re.compile(r"[a-zA-Z]{2,}")
NEAR_IDENTICAL = 0.8


@dataclass(frozen=True)
class SetMeasures:
    answers: int
    distinct: float
    collapse: float
    relevant: float
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


_PARTICLE = re.compile(
    r"(?:에서는|에서|으로는|으로|에게|에는|까지|부터|이란|란|이라는|라는|은|는|이|가|을|를|의|에|도|로|와|과|들)$"
)
_ASKING_TEXT = (
    "무엇 뭐야 어떤 어떻게 알려 알려줘 설명 설명해 주세요 해줘 말해 대해 대한 대해서 "
    "있는 있나 무슨 방법 이유 왜냐 좋은 작성 추천 어디 언제 "
    "누구 인가 인가요 합니다 하는 위한 위해 그리고 다음 대하 해주 하세 있어 있을 것은 "
    "싶어 싶은 뭐예 가지 제가 저는 안녕 고마 감사 미안 반가"
)
_ASKING = frozenset(_ASKING_TEXT.split())


def content_pieces(prompt: str) -> set[str]:
    """Two-syllable openings of the content words: `서울의 맛집을 추천해 주세요` → {서울, 맛집}."""
    pieces = {piece for piece in map(_piece, _HANGUL_RUN.findall(prompt)) if piece}
    pieces |= {word.lower() for word in _LATIN.findall(prompt)}
    return pieces


@lru_cache(maxsize=65536)
def _piece(word: str) -> str:
    stem = _PARTICLE.sub("", word) if len(word) > 2 else word
    return stem[:2] if len(stem) >= 2 and stem not in _ASKING and stem[:2] not in _ASKING else ""


def is_relevant(prompt: str, response: str) -> bool:
    """Does some piece of the prompt's content words come back? A prompt without any (`안녕`) is always met."""
    pieces = content_pieces(prompt)
    said = response.lower()
    return not pieces or any(piece in said for piece in pieces)


def measure(prompts: list[str], responses: list[str]) -> SetMeasures:
    """All set measures of one model's answers, in the order of `prompts`."""
    relevant = [is_relevant(p, r) for p, r in zip(prompts, responses, strict=True)]
    return SetMeasures(
        answers=len(responses),
        distinct=distinct(prompts, responses),
        collapse=collapse(prompts, responses),
        relevant=sum(relevant) / len(relevant) if relevant else 1.0,
        median_characters=float(median(map(len, responses))) if responses else 0.0,
    )
