"""The score: what an answer loses by its faults and by eight marks of a poor answer that is free of faults.

| mark | 0 … 1 | what a reader would say |
|---|---|---|
| `dull` | distinct words among 40 in a row: 92 % and more … 42 % | the same few words again and again |
| `circling` | the same, where an explanation was asked for | explains nothing, goes in circles |
| `worn` | content words that were said before, of all | nothing new |
| `thin` | sentences, where an explanation was asked for: 10 … none | touched on, not explained |
| `flat` | lines: 20 where an explanation was asked for, else 5 … none; nothing where a short answer was | not laid out |
| `again` | a whole sentence comes back word for word: 1 | said that already |
| `closing` | `다른 궁금한 점이 있으면 언제든지 물어보세요` | a stock phrase instead of an end |
| `aside` | half of the prompt's content words taken up … none | talks past the question |

Every fault and every mark has a cost in COSTS, none under zero, so a further fault never raises the score. With the sum of the
costs c the score is σ(3.5 - c) / σ(3.5): 1.0 at no cost, 0.84 at 2, 0.39 at 4. Each mark is bounded and flat beyond its bound.

The costs are a logistic regression on pairs of judged answers to one question; benchmarks/fit_score.py writes them here and
measures them with questions held out. Compression ratio, new content words a sentence, letters of Hangul, foreign letters,
tables, headings and sentence length bring nothing beside these (docs/naturalness.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import exp, log
from typing import NamedTuple

from align_ko.korean.prose import Sentence, without_code
from align_ko.korean.words import HANGUL, NAMES, ROOTS, content_pieces, tokens

COSTS: dict[str, float] = {
    "dull": 1.75,
    "circling": 1.2,
    "worn": 1.33,
    "thin": 2.45,
    "flat": 1.88,
    "again": 0.51,
    "closing": 2.07,
    "aside": 0.94,
    "empty": 8.0,
    "not_korean": 4.08,
    "repetition": 1.17,
    "template_leak": 1.54,
    "echo": 6.75,
    "no_answer": 5.14,
    "unfinished": 2.3,
    "strange_characters": 0.6,
    "code_switching": 1.97,
    "wrong_register": 0.02,
    "mixed_register": 0.81,
    "filler": 1.66,
    "chat_slang": 2.87,
    "too_short": 2.87,
    "too_long": 2.87,
    "honorific": 0.91,
    "grammar": 0.91,
    "wrong_particle": 0.56,
    "spacing": 0.91,
    "translationese": 1.52,
}
MARKS: tuple[str, ...] = tuple(COSTS)[:8]
SLIPS = frozenset({"wrong_particle", "spacing", "honorific", "grammar"})
"""Faults that count as often as they occur, up to five times; any other counts once."""
_BEST = 3.5

_WINDOW = 40
_STRIDE = 10
_LEAST_WORDS = 8  # 네, 정말 그렇습니다, 정말로요. says little of anybody's vocabulary
_MOST_WORDS = 4000  # of a longer text the beginning is enough
_SENTENCES = 10
_EXPLAIN = re.compile(
    r"설명|이유|근거|방법|작성|생각해|예시|비교|분석|소개|제시|특징|차이|요인|어떻게|왜|평가|비판|예상|전략|풀이"
    r"|촉구|만들|써 ?[줘보봐]"
)
_BRIEF = re.compile(r"요약|한 ?문장|한 ?단어|한 ?줄|간단|짧게|한마디|번역|바꿔|바꾸|고쳐|숫자만|답만|이름만")
_CLOSING = re.compile(
    r"(?:궁금한 ?(?:점|것|사항|내용)|도움이 필요|질문이 ?(?:있|생)|더 알고 싶)[^.!?\n]{0,30}"
    r"(?:언제|말씀|물어|질문|문의|알려|도와|주세요|여기)"
    r"|언제든지? (?:물어|말씀|질문|문의|도와|여기)"
    r"|도움이 되(?:길|었길|기를|었기를|셨길|었으면|면 좋겠)"
)


class Asked(NamedTuple):
    """What the prompt asks for: its content words, an explanation, how many lines an answer may use."""

    pieces: frozenset[str]
    explain: bool
    lines: int


_NOTHING = Asked(frozenset(), False, 0)


@lru_cache(maxsize=4096)
def _read(prompt: str) -> Asked:
    """Cached: the candidates of one prompt come one after another."""
    brief = bool(_BRIEF.search(prompt))
    explain = bool(_EXPLAIN.search(prompt)) and not brief
    return Asked(frozenset(content_pieces(prompt)), explain, 0 if brief else 20 if explain else 5)


def marks(response: str, parts: Sequence[Sentence], prompt: str | None = None) -> dict[str, float]:
    """Each mark from 0 (nothing to say) to 1. Without a prompt `circling`, `thin`, `flat` and `aside` cannot be told and are 0.

    `비타민은 몸에 좋습니다.` to `비타민이 왜 필요한지 설명해 주세요` → thin 0.71, flat 0.77, the others 0.
    """
    asked = _read(prompt) if prompt else _NOTHING
    words = tokens(without_code(response))[:_MOST_WORDS]
    dull = _between((0.92 - _variety(list(NAMES.each(words)))) / 0.5)
    roots = list(ROOTS.each(words))
    content = len(roots) - roots.count("")
    taken = sum(map(response.lower().__contains__, asked.pieces)) / len(asked.pieces) if asked.pieces else 1.0
    sentences = sum([part.kind in ("prose", "item") for part in parts])
    lines = sum([not line.isspace() for line in response.split("\n") if line])
    return {
        "dull": dull,
        "circling": dull if asked.explain else 0.0,
        "worn": 1 - len({*roots} - {""}) / content if len(words) >= _LEAST_WORDS and content else 0.0,
        "thin": _between(1 - log(1 + sentences) / log(1 + _SENTENCES)) if asked.explain else 0.0,
        "flat": _between(1 - log(1 + lines) / log(1 + asked.lines)) if asked.lines else 0.0,
        "again": float(_says_again(response, parts)),
        "closing": float(bool(_CLOSING.search(response))),
        "aside": _between(1 - taken * 2),
    }


def counted(codes: Sequence[str]) -> dict[str, int]:
    """How often each code counts: a loop found in three places is one, five wrong particles are five."""
    return {code: min(often, 5 if code in SLIPS else 1) for code, often in Counter(codes).items()} if codes else {}


def graded(values: Mapping[str, float], costs: Mapping[str, float] = COSTS) -> float:
    """`values`: marks, and how often each code counts. 1.0 … 0.0, lower with every fault and mark."""
    return (1 + exp(-_BEST)) / (1 + exp(sum([costs[name] * value for name, value in values.items()]) - _BEST))


def _between(value: float) -> float:
    return min(1.0, max(0.0, value))


def _says_again(response: str, parts: Sequence[Sentence]) -> bool:
    """A sentence of some length, twice; of ten letters and more, for `예를 들어 볼게요.` may open two sections."""
    told = [response[part.start : part.end] for part in parts if part.kind in ("prose", "item")]
    if len(set(told)) == len(told):
        return False
    seen: set[str] = set()
    for each in told:
        if each in seen and sum(map(len, HANGUL.findall(each))) >= 10:
            return True
        seen.add(each)
    return False


def _variety(words: Sequence[str]) -> float:
    """Mean share of distinct words in stretches of 40; for a shorter text, in the whole. Length does not matter."""
    size = len(words)
    if size < _LEAST_WORDS:
        return 1.0
    if size < _WINDOW:
        return len(set(words)) / size
    starts = {*range(0, size - _WINDOW, _STRIDE), size - _WINDOW}  # the last words count, too
    return sum([len(set(words[i : i + _WINDOW])) for i in starts]) / (_WINDOW * len(starts))
