"""Rows seen before, and rows too near to an evaluation prompt."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.sketches import letter_codes
from align_ko.records import Message

OVERLAP_THRESHOLD = 0.56
"""Dice similarity of character bigrams from which two prompts ask the same thing in almost the same words.

Seen among 950 questions of our own: "무지개는 어떻게 생기는 거야?" and "비 온 뒤 무지개는 어떻게 생기나요?" 0.57, and
most pairs above it near-copies too; "사계절은 왜 생기나요?" and "밀물과 썰물은 왜 생기나요?", which are not, 0.55.
"""
MIN_FOLLOW_UP = 8  # letters; a shorter second question of a conversation ("왜요?") says nothing on its own
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[\W_]+")  # what str.isalnum refuses, and several times as fast


def normalize(text: str) -> str:
    """Letters and digits only, compatibility forms and case folded: what is left when nothing that matters differs.

    >>> normalize("피보나치 수열이  뭐야?!") == normalize("피보나치　수열이 뭐야")
    True
    """
    return _NEITHER_LETTER_NOR_DIGIT.sub("", unicodedata.normalize("NFKC", text).casefold())


def duplicate_key(messages: Sequence[Message]) -> bytes:
    """Equal for conversations that say the same, whatever their spacing, punctuation and case. 16 bytes each."""
    text = "\x1e".join(f"{m['role']}\x1f{normalize(m['content'])}" for m in messages)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def prompts_to_hold_out(messages: Sequence[Message]) -> list[str]:
    """The questions of an evaluation conversation that training must not see: the first, and long later ones."""
    asked = [m["content"] for m in messages if m["role"] == "user"]
    return asked[:1] + [question for question in asked[1:] if len(normalize(question)) >= MIN_FOLLOW_UP]


class PromptIndex:
    """Evaluation prompts by their character bigrams: every prompt is compared, 5,000 of them in 50 µs.

    >>> PromptIndex(["김치찌개는 어떻게 끓이나요?"]).nearest("김치찌개는 어떻게 끓여요?")
    ('김치찌개는 어떻게 끓이나요?', 0.8)
    """

    def __init__(self, prompts: Iterable[str]) -> None:
        self._prompts = list(dict.fromkeys(prompts))
        grams = [_bigrams(prompt) for prompt in self._prompts]
        self._sizes = np.array([len(of_one) for of_one in grams], dtype=np.int64)
        every = np.concatenate([np.empty(0, dtype=np.uint64), *grams])
        order = np.argsort(every, kind="stable")
        self._grams, first = np.unique(every[order], return_index=True)
        holders = np.repeat(np.arange(len(grams)), self._sizes)[order]  # prompts, gram by gram
        self._holders = np.split(holders, first[1:])
        self._grams = np.append(self._grams, np.uint64(2**64 - 1))  # no gram: what is larger than all is found here

    def nearest(self, text: str) -> tuple[str, float]:
        """The most similar prompt and its Dice similarity (1.0: the same bigrams); ("", 0.0) when none shares any.

        Of two prompts as similar, the first.
        """
        grams = _bigrams(text)
        places = self._grams.searchsorted(grams)
        places = places[self._grams[places] == grams]
        if not len(places):
            return "", 0.0
        found = np.concatenate([self._holders[place] for place in places.tolist()])
        dice = 2 * np.bincount(found, minlength=len(self._prompts)) / (len(grams) + self._sizes)
        best = int(dice.argmax())
        return self._prompts[best], float(dice[best])


def overlaps(prompt: str, evaluation_prompts: Iterable[str] | PromptIndex, threshold: float = OVERLAP_THRESHOLD) -> bool:
    """Whether training on `prompt` would give an evaluation prompt away.

    >>> overlaps("한국의 수도는 어디인가요?", ["한국의 수도는 어디야?"])
    True
    >>> overlaps("한국의 국화는 무엇인가요?", ["한국의 수도는 어디야?"])
    False
    """
    index = evaluation_prompts if isinstance(evaluation_prompts, PromptIndex) else PromptIndex(evaluation_prompts)
    return index.nearest(prompt)[1] >= threshold


def _bigrams(text: str) -> NDArray[np.uint64]:
    """Bigrams of the normalised text with its ends marked, so that one syllable has some too. "네" → "^네", "네$"."""
    codes = letter_codes(unicodedata.normalize("NFKC", text).casefold())
    marked = np.zeros(len(codes) + 2, dtype=np.uint64)  # 0 marks both ends
    marked[1:-1] = codes
    grams = np.sort(marked[:-1] << np.uint64(32) | marked[1:])
    return grams[np.concatenate(([True], grams[1:] != grams[:-1]))]
