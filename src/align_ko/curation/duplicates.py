"""Rows seen before, and rows too near to an evaluation prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.code_points import folded, groups, letters_and_digits, only_letters
from align_ko.records import Message

OVERLAP_THRESHOLD = 0.56
"""Dice similarity of character bigrams from which two prompts ask the same thing in almost the same words.

Seen among 950 questions of our own: "무지개는 어떻게 생기는 거야?" and "비 온 뒤 무지개는 어떻게 생기나요?" 0.57, and
most pairs above it near-copies too; "사계절은 왜 생기나요?" and "밀물과 썰물은 왜 생기나요?", which are not, 0.55.
"""
MIN_FOLLOW_UP = 8  # letters; a shorter second question of a conversation ("왜요?") says nothing on its own


def normalize(text: str) -> str:
    """Letters and digits only, compatibility forms and case folded: what is left when nothing that matters differs.

    >>> normalize("피보나치 수열이  뭐야?!") == normalize("피보나치　수열이 뭐야")
    True
    """
    return only_letters(folded(text))


def duplicate_key(messages: Sequence[Message]) -> bytes:
    """Equal for conversations that say the same, whatever their spacing, punctuation and case. 16 bytes each.

    >>> one, other = ([{"role": "user", "content": text}] for text in ("수도가 어디?", "수도가  어디"))
    >>> duplicate_key(one) == duplicate_key(other)
    True
    """
    return duplicate_keys([messages])[0]


def duplicate_keys(conversations: Sequence[Sequence[Message]]) -> list[bytes]:
    """`duplicate_key` of each conversation, in order. Of some hundred at a time each costs half of what it costs alone.

    >>> duplicate_keys([[], [{"role": "user", "content": "네"}]]) == [
    ...     duplicate_key([]), duplicate_key([{"role": "user", "content": "네"}])]
    True
    """
    said = _letters([m["content"] for messages in conversations for m in messages])
    return [_digest(messages, said) for messages in conversations]


def _letters(texts: Sequence[str]) -> Iterator[bytes]:
    """What `normalize` leaves of each text, four bytes a letter."""
    for group in groups(texts):
        letters, apart = letters_and_digits(list(map(folded, group)))
        held, ends = letters.tobytes(), (4 * apart).tolist()
        yield from (held[start + 4 : end] for start, end in pairwise(ends))


def _digest(messages: Sequence[Message], said: Iterator[bytes]) -> bytes:
    parts = [part for m in messages for part in (_speaker(m["role"]), next(said))]
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


@lru_cache(16)
def _speaker(role: str) -> bytes:
    return f"\x1e{role}\x1f".encode("utf-32-le", "surrogatepass")


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
        found = [_bigrams(group) for group in groups(self._prompts)]
        none = np.empty(0, dtype=np.int64)
        self._sizes = np.concatenate([none, *(sizes for _, sizes in found)])
        every = np.concatenate([none.astype(np.uint64), *(grams for grams, _ in found)])
        order = np.argsort(every, kind="stable")
        self._grams, first = np.unique(every[order], return_index=True)
        holders = np.repeat(np.arange(len(self._sizes)), self._sizes)[order]  # prompts, gram by gram
        self._holders = np.split(holders, first[1:])
        self._grams = np.append(self._grams, np.uint64(2**64 - 1))  # no gram: what is larger than all is found here

    def nearest(self, text: str) -> tuple[str, float]:
        """The most similar prompt and its Dice similarity (1.0: the same bigrams); ("", 0.0) when none shares any.

        Of two prompts as similar, the first.
        """
        return self.nearest_each([text])[0]

    def nearest_each(self, texts: Sequence[str], threshold: float = 0.0) -> list[tuple[str, float]]:
        """`nearest` of each text, in order; ("", 0.0) for one that no prompt is like by `threshold` or more.

        With OVERLAP_THRESHOLD most texts cost next to nothing: too few of their bigrams stand in any prompt.

        >>> asked = ["김치찌개는 어떻게 끓여요?", "김치는 왜 시어지나요?"]
        >>> PromptIndex(["김치찌개는 어떻게 끓이나요?"]).nearest_each(asked, threshold=0.56)
        [('김치찌개는 어떻게 끓이나요?', 0.8), ('', 0.0)]
        """
        return [each for group in groups(texts) for each in self._nearest(group, threshold)]

    def _nearest(self, texts: Sequence[str], threshold: float) -> list[tuple[str, float]]:
        nearest = [("", 0.0)] * len(texts)
        grams, sizes = _bigrams(texts)
        places = self._grams.searchsorted(grams)
        starts = np.cumsum(sizes) - sizes
        known = np.add.reduceat(self._grams[places] == grams, starts, dtype=np.int64)
        most = 2 * known / (sizes + known)  # with a prompt of just the bigrams that any prompt has
        for number in np.flatnonzero((known > 0) & (most >= threshold)).tolist():
            own = slice(starts[number], starts[number] + sizes[number])
            shared = places[own][self._grams[places[own]] == grams[own]]
            found = np.concatenate([self._holders[place] for place in shared.tolist()])
            dice = 2 * np.bincount(found, minlength=len(self._prompts)) / (sizes[number] + self._sizes)
            best = int(dice.argmax())
            if dice[best] >= threshold:
                nearest[number] = self._prompts[best], float(dice[best])
        return nearest


def overlaps(prompt: str, evaluation_prompts: Iterable[str] | PromptIndex, threshold: float = OVERLAP_THRESHOLD) -> bool:
    """Whether training on `prompt` would give an evaluation prompt away.

    >>> overlaps("한국의 수도는 어디인가요?", ["한국의 수도는 어디야?"])
    True
    >>> overlaps("한국의 국화는 무엇인가요?", ["한국의 수도는 어디야?"])
    False
    """
    index = evaluation_prompts if isinstance(evaluation_prompts, PromptIndex) else PromptIndex(evaluation_prompts)
    return index.nearest(prompt)[1] >= threshold


def _bigrams(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Bigrams of each normalised text with its ends marked, so that one syllable has some too. "네" → "^네", "네$".

    The distinct ones of the first text, sorted, then those of the next; and how many of each text.
    """
    letters, apart = letters_and_digits(list(map(folded, texts)))  # a nought marks both ends
    text = np.repeat(np.arange(len(texts), dtype=np.uint64), np.diff(apart))
    codes = letters.astype(np.uint64)
    grams = np.sort(text << np.uint64(42) | codes[:-1] << np.uint64(21) | codes[1:])  # code points have 21 bits
    different = np.ones(len(grams), dtype=np.bool_)
    np.not_equal(grams[1:], grams[:-1], out=different[1:])
    grams = grams.compress(different)
    sizes = np.bincount((grams >> np.uint64(42)).astype(np.int64), minlength=len(texts))
    return grams & np.uint64((1 << 42) - 1), sizes
