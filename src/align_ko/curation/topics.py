"""What a question is about, cheaply: words weighed by how rare they are, cast into 128 numbers, and gathered by k-means.

Own and small rather than scikit-learn's, because the same seed must give the same rows everywhere: all that is multiplied
is whole numbers that float32 holds exactly, so that neither the number of threads nor the BLAS library moves a row.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 128
LARGEST = 127  # of one number; 128 products of such are below 2 ** 24, where float32 stops being exact
MOST_TOPICS = 512
TRAINED_ON = 20_000  # rows; the others only join the nearest topic
ROUNDS = 10
WORDS = 64  # of one question; a long passage has shown its subject by then
BATCH = 20_000  # rows at a time: bounds the memory

# Two syllables are a crude stem: 김치찌개는, 김치찌개를 and 김치는 all give 김치. Of Latin words all is taken.
_WORD = re.compile(r"(?<![가-힣])[가-힣]{2}|[a-z][a-z0-9+#]+")


def topic_words(question: str) -> bytes:
    """The words of a question, 4 bytes each: all that `topics` needs, made in the workers.

    >>> topic_words("김치찌개를 끓이는 법") == topic_words("김치찌개는 끓이나요?")
    True
    """
    words = dict.fromkeys(_WORD.findall(question[: 20 * WORDS].lower()))
    return np.array([zlib.crc32(word.encode()) for word in words][:WORDS], dtype=np.uint32).tobytes()


def topics(words: Sequence[bytes]) -> NDArray[np.int64]:
    """A topic's number for each row, -1 for a row that shares no word with another.

    The rows must come in an order of their own (by a seeded hash of their content): the first ones open the topics.
    """
    vectors = _vectors(words)
    known = np.flatnonzero(vectors.any(axis=1))
    number = np.full(len(words), -1, dtype=np.int64)
    if len(known):
        count = max(1, min(MOST_TOPICS, round((len(known) / 2) ** 0.5)))
        centres = _centres(vectors[known[:TRAINED_ON]], count)
        number[known] = _nearest(vectors[known], centres)
    return number


def _vectors(words: Sequence[bytes]) -> NDArray[np.int8]:
    """Rows of whole numbers, each as long as the others: two about the same words point the same way."""
    counts = np.fromiter((len(one) // 4 for one in words), dtype=np.int64, count=len(words))
    vocabulary, places = np.unique(np.frombuffer(b"".join(words), dtype=np.uint32), return_inverse=True)
    rows = np.bincount(places, minlength=len(vocabulary))
    # A word of one row joins nothing; one of every other row ("알려", "대해") parts nothing.
    weight = np.where(rows > 1, np.log(np.maximum(len(words) / (2 * np.maximum(rows, 1)), 1)), 0).astype(np.float32)
    signs = _signs(vocabulary)
    bounds = np.concatenate(([0], np.cumsum(counts)))
    out = np.zeros((len(words), DIMENSIONS), dtype=np.int8)
    for first in range(0, len(words), BATCH):
        last = min(first + BATCH, len(words))
        part = places[bounds[first] : bounds[last]]
        filled = np.flatnonzero(counts[first:last])  # reduceat takes no empty stretch
        if not len(filled):
            continue
        sums = np.add.reduceat(weight[part, None] * signs[part], bounds[first + filled] - bounds[first], axis=0)
        out[first + filled] = _whole(sums)
    return out


def _signs(vocabulary: NDArray[np.uint32]) -> NDArray[np.int8]:
    """A fixed random direction of +1 and -1 for each word, from its hash."""
    bits = np.empty((len(vocabulary), DIMENSIONS // 64), dtype=np.uint64)
    for half in range(bits.shape[1]):
        mixed = (vocabulary.astype(np.uint64) + np.uint64(half + 1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
        mixed *= np.uint64(0xD6E8FEB86659FD93)
        bits[:, half] = mixed ^ mixed >> np.uint64(29)
    return np.unpackbits(bits.view(np.uint8), axis=1).astype(np.int8) * np.int8(2) - np.int8(1)


def _whole(sums: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.int8]:
    """Brought to length 127 · 3 and rounded; a number beyond 127, one direction standing out threefold, is cut."""
    length = np.sqrt(np.square(sums, dtype=np.float64).sum(axis=1, keepdims=True))
    scaled = sums * (3.0 * LARGEST / np.maximum(length, 1e-9))
    whole: NDArray[np.int8] = np.clip(np.rint(scaled), -LARGEST, LARGEST).astype(np.int8)
    return whole


def _centres(vectors: NDArray[np.int8], count: int) -> NDArray[np.int8]:
    different = np.unique(vectors, axis=0, return_index=True)[1]
    centres = vectors[np.sort(different)[:count]]
    for _ in range(ROUNDS):
        number = _nearest(vectors, centres)
        order = np.argsort(number, kind="stable")
        present, first = np.unique(number[order], return_index=True)
        sums = np.add.reduceat(vectors[order].astype(np.float64), first, axis=0)  # whole numbers: exact in any order
        moved = centres.copy()
        moved[present] = _whole(sums)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _nearest(vectors: NDArray[np.int8], centres: NDArray[np.int8]) -> NDArray[np.int64]:
    across = centres.T.astype(np.float32)
    number = np.empty(len(vectors), dtype=np.int64)
    for first in range(0, len(vectors), BATCH):
        number[first : first + BATCH] = np.argmax(vectors[first : first + BATCH].astype(np.float32) @ across, axis=1)
    return number
