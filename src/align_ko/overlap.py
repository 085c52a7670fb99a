"""Whether a prompt is, exactly or nearly, one of a set, such as the evaluation prompts that training must avoid."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from align_ko.records import Message

OVERLAP_THRESHOLD = 0.56
"""Dice similarity of character bigrams from which two prompts ask the same thing in almost the same words.

Measured on 950 questions of our own: "무지개는 어떻게 생기는 거야?" and "비 온 뒤 무지개는 어떻게 생기나요?" have 0.57, and
most pairs above it are near-copies too; "사계절은 왜 생기나요?" and "밀물과 썰물은 왜 생기나요?", which are not, have 0.55.
"""
MIN_FOLLOW_UP = 8  # letters; a shorter second question of a conversation ("왜요?") says nothing on its own
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[\W_]+")  # what str.isalnum refuses, several times as fast


def fold(text: str) -> str:
    """Compatibility forms and case folded: `ＡＢＣ ㎏` → `abc kg`."""
    return unicodedata.normalize("NFKC", text).casefold()


def only_letters(text: str) -> str:
    """Letters and digits: `피보나치 수열이 뭐야?!` → `피보나치수열이뭐야`."""
    return text if text.isalnum() else _NEITHER_LETTER_NOR_DIGIT.sub("", text)


def normalize(text: str) -> str:
    """Folded letters and digits: equal for texts that differ in spacing, punctuation, width and case only."""
    return only_letters(fold(text))


def prompts_to_hold_out(messages: Sequence[Message]) -> list[str]:
    """The questions of an evaluation conversation that training must not see: the first, and long later ones."""
    asked = [m["content"] for m in messages if m["role"] == "user"]
    return asked[:1] + [question for question in asked[1:] if len(normalize(question)) >= MIN_FOLLOW_UP]


class PromptIndex:
    """Prompts by their character bigrams: of 김치찌개는 어떻게 끓이나요? the nearest to 김치찌개는 어떻게 끓여요?, at 0.8."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._prompts = list(dict.fromkeys(prompts))
        self._sizes = np.zeros(len(self._prompts), dtype=np.int64)
        holders: defaultdict[str, list[int]] = defaultdict(list)
        for number, prompt in enumerate(self._prompts):
            grams = _bigrams(prompt)
            self._sizes[number] = len(grams)
            for gram in grams:
                holders[gram].append(number)
        self._holders: dict[str, NDArray[np.int64]] = {gram: np.array(numbers) for gram, numbers in holders.items()}

    def nearest(self, text: str, threshold: float = 0.0) -> tuple[str, float]:
        """The most similar prompt (the first of several) and its Dice similarity; ("", 0.0) when none reaches `threshold`,
        which makes most texts cheap: too few of their bigrams occur in any prompt."""
        grams = _bigrams(text)
        shared = grams & self._holders.keys()
        # Dice similarity with a prompt of exactly the shared bigrams, which no prompt can exceed
        if not shared or 2 * len(shared) < threshold * (len(grams) + len(shared)):
            return "", 0.0
        found = np.concatenate([self._holders[gram] for gram in shared])
        dice = 2 * np.bincount(found, minlength=len(self._prompts)) / (len(grams) + self._sizes)
        best = int(dice.argmax())
        return (self._prompts[best], float(dice[best])) if dice[best] >= threshold else ("", 0.0)


def overlaps(prompt: str, evaluation_prompts: Iterable[str] | PromptIndex) -> bool:
    """Whether training on `prompt` would give an evaluation prompt away: 한국의 수도는 어디인가요? and 한국의 수도는 어디야?"""
    index = evaluation_prompts if isinstance(evaluation_prompts, PromptIndex) else PromptIndex(evaluation_prompts)
    return index.nearest(prompt, OVERLAP_THRESHOLD)[1] > 0


def _bigrams(text: str) -> set[str]:
    """Bigrams of the normalised text with its ends marked, so that one syllable has two: "네" → "\\n네", "네\\n"."""
    return set(map("".join, pairwise(f"\n{normalize(text)}\n")))
