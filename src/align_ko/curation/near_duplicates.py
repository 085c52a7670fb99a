"""Which rows nearly repeat a better one, in their question or in their answer.

Workers turn each text into a `Sketch`; the parent looks up candidates by MinHash bands (rensa) and checks each. Compared are
runs of six jamo of the normalised text. Jamo and not syllables, because Korean inflects inside the syllable: "빨간가요" and
"빨개요" share no syllable but 빨 and 요, and nearly half of their jamo. Measured on 816 turns of SmileStyle, the same turn in
another style against the nearest other turn: where one turn in 200 has a false neighbour, runs of six jamo find 84 % of the
plain rewrites, syllable bigrams 60 %, syllable trigrams 75 %.

Runs that many texts share ("… 에 대해 설명해 주세요") weigh a quarter of rare ones, so that rows written to one template are
alike only where what they ask about is.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH

from align_ko.overlap import fold, normalize, only_letters
from align_ko.recipe import NearDuplicateArgs
from align_ko.records import Message

SideName = Literal["question", "answer"]
Goodness = tuple[float, float, "str | bytes"]
QUESTION_THRESHOLD = NearDuplicateArgs.question
"""Weighted share of common runs from which two questions ask the same, given the same numbers and quoted words.

Above: "사과는 왜 빨간가요?" and "사과는 왜 빨개요?" 0.59, "한국의 수도는 어디인가요?" and "한국의 수도는 어디야?" 0.74.
Below: "사과는 왜 빨간가요?" and "고추는 왜 빨간가요?" 0.36, "김치찌개는 …" and "된장찌개는 어떻게 끓이나요?" 0.46.
Read by eye, ten or so pairs of each step of .05: of the 23,976 requests of StyleKQC nearly all from 0.5 on say the same; of
the 11,662 short questions of songys those from 0.6 on mostly do, of those from 0.5 to 0.55 not even half.
"""
LONG_QUESTION_THRESHOLD = NearDuplicateArgs.long_question
"""The same beyond 65 syllables or so: there endings weigh little, and what is alike may be the instruction to a new passage."""
ANSWER_THRESHOLD = NearDuplicateArgs.answer
"""The same for answers of any length, whatever their numbers: at 0.7 five sentences of six are the same."""
MIN_QUESTION = 7  # letters; "안녕하세요" opens a thousand different conversations, and each may stay
MIN_ANSWER = 20  # letters; "네, 맞습니다." answers many questions

JAMO = 6
LONGEST = 20_000  # characters read: what differs later in two texts does not make them two
FEW = 160  # runs, about 65 syllables: up to here they are kept themselves, so that the comparison is exact and weighted
MANY = 96  # from here there is a signature; a text between the two has both, so that texts of like length always meet
SLOTS = 128  # of a signature: a similarity of .7 is estimated to ± .04
BANDS = 32  # of 4 slots: one agrees with probability .99 at a similarity of .6, .999 at .65, .23 at .3
SEED = 20_240_229
MARGIN = 0.12  # an estimate this far below the threshold is still checked exactly: over three standard deviations
RARE = 20  # a run in up to so many texts weighs 4, in 33 texts 3, in 55 2, in 200 and more 1
SHORT_BODY = 40  # characters; a longer text after the colon weighs enough among the runs
_WEIGHT_BITS = 22  # of a run's hash, by which its texts are counted
_QUOTED = re.compile(r"""["'“‘「『<]([^"'“”‘’「」『』<>\n]{1,40})["'”’」』>]""")

Runs = NDArray[np.uint32]
_RUN = np.dtype(f"V{4 * JAMO}")


def duplicate_key(messages: Sequence[Message]) -> bytes:
    """16 bytes, equal for conversations that differ in spacing, punctuation, width and case only.

    >>> one, other = ([{"role": "user", "content": text}] for text in ("수도가 어디?", "수도가  어디"))
    >>> duplicate_key(one) == duplicate_key(other)
    True
    """
    said = "".join(f"\x1e{message['role']}\x1f{normalize(message['content'])}" for message in messages)
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Sketch(NamedTuple):
    """What is compared of a text, in a few hundred bytes."""

    key: bytes  # equal for texts that differ in spacing, punctuation, width and case only
    letters: int  # letters and digits, a Korean syllable being one
    facts: bytes  # hash of what must agree between two questions: numbers, quoted words, a short text after the colon
    runs: bytes  # hashes of the runs, sorted, 4 bytes each; empty for a text of more than FEW
    signature: RMinHash | None  # None for a text of fewer than MANY


def sketch(text: str) -> Sketch:
    """Equal `key` and `facts` for texts that differ in spacing, punctuation, width and case only.

    >>> sketch("사과는 왜 빨간가요?").key == sketch("사과는  왜 빨간가요").key
    True
    """
    text = fold(text[:LONGEST].strip())
    said = only_letters(text)
    jamo = only_letters(unicodedata.normalize("NFD", said))
    # What precedes a text makes up its first runs: a question opens with its subject.
    codes = ("\0" * (JAMO - 1) + jamo).encode("utf-32-le")
    windows: Runs = np.ndarray((len(jamo), JAMO), np.uint32, codes, strides=(4, 4))
    grams: list[bytes] = np.ascontiguousarray(windows).view(_RUN).ravel().tolist()  # several times as fast as slices
    runs, signature = b"", None
    if len(grams) <= FEW:
        runs = np.array(sorted(set(map(crc32, grams))), dtype=np.uint32).tobytes()
    if len(grams) >= MANY:
        signature = RMinHash(SLOTS, SEED)
        signature.update(grams)
    return Sketch(_hash(said), len(said), _facts(text) if said else b"", runs, signature)


def _facts(text: str) -> bytes:
    """In "다음 낱말을 영어로 옮겨 주세요: 사과" all depends on the one word, and in "'사과'는 영어로 뭐예요?"."""
    found = set(re.findall(r"\d+", text)) | {only_letters(quoted) for quoted in _QUOTED.findall(text)}
    body = text[max(text.rfind(":"), text.rfind("\n")) + 1 :]
    if len(body) <= SHORT_BODY and len(body) < len(text):
        found.add(only_letters(body))
    found.discard("")
    return _hash("\x1f".join(sorted(found))) if found else b""


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


EMPTY = sketch("")


@dataclass(frozen=True)
class Duplicate:
    """Why a row is dropped: the better row that stays, the side on which they meet, and how alike they are there (0-1)."""

    kept: int
    side: SideName
    similarity: float


def near_duplicates(
    questions: Sequence[Sketch],
    answers: Sequence[Sketch],
    order: Sequence[Goodness] | Sequence[int],
    question_threshold: float = QUESTION_THRESHOLD,
    long_threshold: float = LONG_QUESTION_THRESHOLD,
    answer_threshold: float = ANSWER_THRESHOLD,
) -> dict[int, Duplicate]:
    """Row → the better row that it repeats. The best row goes first; a row is dropped only if it is near one that stays.

    So of a chain A ~ B ~ C in which A and C are far apart, A and C stay. `order` has a key for each row, the smallest
    for the best (select.goodness makes them); without ties among them the outcome depends on the rows alone.
    A threshold above 1 leaves that side out, even where two texts are equal.

    >>> asked = ["김치찌개는 어떻게 끓이나요?", "김치찌개는 어떻게 끓여요?", "된장찌개는 어떻게 끓이나요?"]
    >>> near_duplicates([sketch(text) for text in asked], [sketch("")] * 3, [1, 2, 3])
    {1: Duplicate(kept=0, side='question', similarity=0.742)}
    """
    sides = []
    if question_threshold <= 1:
        sides.append(_Side("question", questions, question_threshold, long_threshold, MIN_QUESTION, agree=True))
    if answer_threshold <= 1:
        sides.append(_Side("answer", answers, answer_threshold, answer_threshold, MIN_ANSWER, agree=False))
    found: dict[int, Duplicate] = {}
    for row in sorted(range(len(order)), key=order.__getitem__):
        nearest = [(similarity, -rank, kept, side.name) for side in sides for similarity, rank, kept in side.like(row)]
        if nearest:
            similarity, _, kept, name = max(nearest, key=lambda one: one[:2])
            found[row] = Duplicate(kept, name, round(similarity, 3))
        else:
            for side in sides:
                side.keep(row)
    return found


class _Side:
    """The questions, or the answers, of the rows that stay so far."""

    def __init__(
        self, name: SideName, sketches: Sequence[Sketch], threshold: float, long_threshold: float, least: int, *, agree: bool
    ) -> None:
        self.name = name
        self._sketches = sketches
        self._threshold, self._long_threshold = threshold, long_threshold
        self._least, self._agree = least, agree
        self._weights = _weights(sketches)
        self._kept: list[int] = []  # rows, the best first
        self._same: dict[tuple[bytes, bytes], int] = {}  # key and facts → place in `_kept`
        # One index for each of what must agree: a thousand sums in the same words are not compared with each other.
        self._short: defaultdict[bytes, _Index] = defaultdict(_Index)
        self._long: defaultdict[bytes, _Index] = defaultdict(_Index)

    def like(self, row: int) -> Iterator[tuple[float, int, int]]:
        """(similarity, place among the kept ones, kept row) of each kept row that `row` repeats."""
        one = self._sketches[row]
        if one.letters < self._least:
            return
        if (same := self._same.get((one.key, one.facts))) is not None:
            yield 1.0, same, self._kept[same]
            return
        facts = one.facts if self._agree else b""
        if one.runs:
            for place, _ in self._short[facts].like(self._weighted(row), self._threshold - MARGIN):
                if (similarity := self._shared(row, self._kept[place])) >= self._threshold:
                    yield similarity, place, self._kept[place]
        if one.signature:
            for place, similarity in self._long[facts].like(one.signature, self._long_threshold):
                if not (one.runs and self._sketches[self._kept[place]].runs):  # those were compared exactly
                    yield similarity, place, self._kept[place]

    def keep(self, row: int) -> None:
        one, place = self._sketches[row], len(self._kept)
        self._kept.append(row)
        if one.letters < self._least:
            return
        self._same.setdefault((one.key, one.facts), place)
        facts = one.facts if self._agree else b""
        if one.runs:
            self._short[facts].add(place, self._weighted(row))
        if one.signature:
            self._long[facts].add(place, one.signature)

    def _weighted(self, row: int) -> RMinHash:
        """A run of weight 3 enters as three: so signatures agree as often as the weighted similarity says."""
        runs = _runs_of(self._sketches[row])
        weights = self._weights(runs)
        tokens = np.repeat(runs.astype(np.uint64) << np.uint64(2), weights)
        tokens += np.arange(len(tokens), dtype=np.uint64) - np.repeat(np.cumsum(weights) - weights, weights).astype(np.uint64)
        signature = RMinHash(SLOTS, SEED)
        signature.update(tokens.view("V8").tolist())
        return signature

    def _shared(self, row: int, other: int) -> float:
        """The weighted share of common runs."""
        first, second = _runs_of(self._sketches[row]), _runs_of(self._sketches[other])
        both = int(self._weights(np.intersect1d(first, second, assume_unique=True)).sum())
        return both / (int(self._weights(first).sum()) + int(self._weights(second).sum()) - both)


class _Index:
    """Signatures by their bands."""

    def __init__(self) -> None:
        self._lsh: RMinHashLSH | None = None
        self._signatures: dict[int, RMinHash] = {}

    def like(self, signature: RMinHash, least: float) -> Iterator[tuple[int, float]]:
        """(place, estimated similarity) of those from `least` on, most of them."""
        for place in self._lsh.query(signature) if self._lsh else ():
            estimate = signature.jaccard(self._signatures[place])
            if estimate >= least:
                yield place, estimate

    def add(self, place: int, signature: RMinHash) -> None:
        self._lsh = self._lsh or RMinHashLSH(0.5, SLOTS, BANDS)
        self._lsh.insert(place, signature)
        self._signatures[place] = signature


def _runs_of(one: Sketch) -> Runs:
    return np.frombuffer(one.runs, dtype=np.uint32)


def _weights(sketches: Sequence[Sketch]) -> Callable[[Runs], NDArray[np.int64]]:
    """Runs → their weights: 4 for one that few texts have, down to 1. Each different text counts once."""
    texts = np.zeros(1 << _WEIGHT_BITS, dtype=np.int64)
    different = {(one.key, one.facts): one for one in sketches if one.runs}.values()
    joined = np.frombuffer(b"".join(one.runs for one in different), dtype=np.uint32)
    for first in range(0, len(joined), 1_000_000):  # bounds the memory
        texts += np.bincount(joined[first : first + 1_000_000] >> np.uint32(32 - _WEIGHT_BITS), minlength=len(texts))
    table = np.maximum(np.rint(4 / (1 + np.log(np.maximum(texts / RARE, 1)))), 1).astype(np.int64)
    return lambda runs: table[runs >> np.uint32(32 - _WEIGHT_BITS)]
