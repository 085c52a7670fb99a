"""Words of Korean text: tokens, stems without their particle, and which words carry content. All rules share them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

Known = TypeVar("Known")
_MOST_WORDS = 65536

HANGUL = re.compile(r"[가-힣]+")
# Formulas and foreign words are left out: only what contains a Korean syllable is a word (1999년, 100g이, O(n)은 not).
# Every alternative opens with its own kind of character, so re skips what is none of them.
# A number or a foreign word is tried from its first sign only, so that a long one is read once.
TOKEN = re.compile(
    r"[가-힣]+|\d(?<!\d\d)(?<!\d[.,]\d)\d*(?:[.,]\d+)*[A-Za-z%]*[가-힣]+|[A-Za-z](?<![A-Za-z]{2})[A-Za-z]+[가-힣]+"
)
_MIXED = re.compile(r"[\dA-Za-z%][가-힣]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:[A-Za-z%]+|[가-힣]?)")
_LATIN = re.compile(r"[a-zA-Z]{2,}")
_PARTICLES = "이?라고|이?라는|에서는|에서|으로는|으로|에게|까지|부터|에는|하고|은|는|이|가|을|를|의|에|도|로|와|과|만"
_PARTICLE = re.compile(rf"(?<=[가-힣A-Za-z])(?:{_PARTICLES})$")
_PARTICLE_OR_COPULA = re.compile(rf"(?<=[가-힣A-Za-z])(?:이에요|예요|입니다|{_PARTICLES})$")
_ORDINAL = re.compile(r"첫|첫째|둘째|셋째|넷째|다섯째|(?:첫|두|세|네|다섯|여섯|\d+)?번째(?:로|는)?")

# Stems that any answer needs again and again, whatever it is about.
GRAMMAR = frozenset(
    (
        "있 없 하 되 보 주 같 않 것 수 때 등 그 이 저 더 안 못 잘 할 될 한 두 세 네 내 제 나 너 해 합 됩 된 "
        "돼 및 또 좀 꼭 곳 점 거 게 줄 데 말 뒤 전 후 중 각 위 입니 있습 합니 됩니 하는 되는 있는 없는 없습 경우 "
        "때문 것입 것이 것은 것을 수도 대해 대한 통해 위해 위한 따라 하지 그리 그러 또한 먼저 이를 이는 이러 하고 하면 "
        "해서 하여 하기 않습 않고 않는 않은 해요 돼요 되고 되면 있고 있으 있어 있다 없다 한다 된다 하나 우리 당신 사람 "
        "사용 다음 이렇 그런 이런 어떤 같은 같이 그것 이것 주세 보세 드립 합니다 저는 저도 제가"
    ).split()
)
# Words that ask: two-syllable openings that say nothing of what a question is about.
_ASKING = frozenset(
    (
        "무엇 뭐야 어떤 어떻게 알려 알려줘 설명 설명해 주세요 해줘 말해 대해 대한 대해서 있는 있나 무슨 방법 이유 왜냐 "
        "좋은 작성 추천 어디 언제 누구 인가 인가요 합니다 하는 위한 위해 그리고 다음 대하 해주 하세 있어 있을 것은 싶어 "
        "싶은 뭐예 가지 제가 저는 안녕 고마 감사 미안 반가"
    ).split()
)


class Recall(dict[str, Known]):
    """A dict that computes what it does not contain: `Recall(len).each(["가", "나다"])` → 1, 2.

    Looked up by `map` without a Python call, which a cached function's bookkeeping makes twice as slow.
    """

    def __init__(self, compute: Callable[[str], Known]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, word: str) -> Known:
        if len(self) >= _MOST_WORDS:  # the frequent ones are soon back
            self.clear()
        known = self[word] = self._compute(word)
        return known

    def each(self, words: Iterable[str]) -> Iterator[Known]:
        return map(self.__getitem__, words)


def _stem(word: str) -> str:
    """`정보를` and `정보예요` → `정보`, `집에서` → `집`: without its particle or copula; at least a syllable is left."""
    return _PARTICLE_OR_COPULA.sub("", word)


STEMS: Recall[str] = Recall(_stem)


def _noun(word: str) -> str:
    """`정보를` → `정보`; `정보예요` stays, a predicate, and so does `집에`: one syllable is often no noun (나도, 하는)."""
    bare = _PARTICLE.sub("", word)
    return bare if len(bare) > 1 else word


NOUNS: Recall[str] = Recall(_noun)


@lru_cache(maxsize=_MOST_WORDS)
def stem_root(word: str) -> tuple[str, str]:
    """(stem, root): `11일로` → (11일, 11일). The root is the stem's opening (중요하고 → 중요), "" for grammar."""
    number = _NUMBER.match(word)
    if number:
        return number.group(), number.group() if number.end() > 1 else ""
    bare = _stem(word)
    root = bare if bare[:1].isascii() and bare[:1].isalpha() else bare[:2]
    # One syllable is a word of its own only before a particle: 털이, 털을, but not 털어.
    if root in GRAMMAR or (len(bare) == 1 and bare == word):
        root = ""
    return bare, root


ROOTS = Recall(lambda word: stem_root(word)[1])
NAMES = Recall(lambda word: stem_root(word)[1] or stem_root(word)[0])
"""Root of a token, its stem where it is grammar."""
COUNTS = Recall(lambda word: bool(_ORDINAL.fullmatch(word)))
"""Does a word only count up? `첫`, `번째는`."""
UNCOUNTED = Recall(lambda word: "" if COUNTS[word] else NAMES[word])


@lru_cache(maxsize=8192)
def syllables(text: str) -> Sequence[str]:
    """Runs of syllables: `12분이나 기다렸다` → [분이나, 기다렸다]. Remembered: several rules read the same sentences."""
    found: list[str] = HANGUL.findall(text)
    return found


def tokens(text: str) -> Sequence[str]:
    """`12분이나 기다렸다 (또)` → [12분이나, 기다렸다, 또]."""
    return TOKEN.findall(text) if _MIXED.search(text) else syllables(text)


@lru_cache(maxsize=4096)
def roots_of(prompt: str) -> frozenset[str]:
    """Roots of its words, "" where grammar is among them; remembered: the candidates of one prompt come one after another."""
    return frozenset(ROOTS.each(HANGUL.findall(prompt)))


def content_pieces(prompt: str) -> set[str]:
    """Two-syllable openings of the content words: `서울의 맛집을 추천해 주세요` → {서울, 맛집}."""
    pieces = {piece for piece in _PIECES.each(HANGUL.findall(prompt)) if piece}
    return pieces | {word.lower() for word in _LATIN.findall(prompt)}


def _piece(word: str) -> str:
    bare = _stem(word) if len(word) > 2 else word
    return bare[:2] if len(bare) >= 2 and bare not in _ASKING and bare[:2] not in _ASKING else ""


_PIECES = Recall(_piece)
