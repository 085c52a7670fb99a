"""How good is an answer that has no fault? Seven mild marks, which together take off 0.1 or 0.2 of the score.

| mark | weight | 0 … 1 | what a reader would say |
|---|---|---|---|
| `dull` | 0.13 | distinct words among 40 in a row: 92 % and more … 42 % | the same few words again and again |
| `thin` | 0.10 | sentences, where an explanation was asked for: 10 … none | touched on, not explained |
| `wall` | 0.09 | lines against one per 100 letters from 200 on, 8 at most | a long text in one block |
| `again` | 0.08 | a whole sentence comes back word for word: 1 | said that already |
| `closing` | 0.05 | `다른 궁금한 점이 있으면 언제든지 물어보세요` | a stock phrase instead of an end |
| `aside` | 0.04 | half of the prompt's content words taken up … none | talks past the question |
| `foreign` | 0.03 | foreign letters, unasked: 10 % … half | too much English |

The weighted marks are added up: below 0.08 the answer keeps its score, from 0.08 it loses 0.1, from 0.14 it loses 0.2. Steps,
since the marks are rough: two answers that differ a little are equally good. Alone, only `again` and, near their worst, `dull`,
`thin` and `wall` reach a step. Each is bounded and flat beyond its bound, so nothing is won by going on: more sentences than
ten, more lines or more question words change nothing, and padding makes an answer dull.

The weights follow a logistic regression on pairs of judged answers, rounded (benchmarks/fit_marks.py fits each half of the
questions and tries it on the other). `again`, `closing` and `foreign` were set by hand and `wall` is heavier than fitted:
most stock phrases in that data come from three models of one family, and a wall of text is a fault of form, which is what
we judge. Marks, bounds and steps were chosen with all questions in view, so the halves test the weights alone. Looked at one
by one, tags, sentence length, endings and the fit of Kiwi's language model told nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import log
from typing import NamedTuple

from align_ko.korean.language import foreign_wanted, format_wanted
from align_ko.korean.prose import Sentence, without_code
from align_ko.korean.words import HANGUL, NAMES, content_pieces, tokens

MARK_WEIGHTS: dict[str, float] = {
    "dull": 0.13,
    "thin": 0.10,
    "wall": 0.09,
    "again": 0.08,
    "closing": 0.05,
    "aside": 0.04,
    "foreign": 0.03,
}
STEPS = (0.08, 0.14)
STEP = 0.1

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
_LATIN = re.compile(r"[A-Za-z]{3,}")


class Asked(NamedTuple):
    """What the prompt asks for: its content words, an explanation."""

    pieces: frozenset[str]
    explain: bool


_NOTHING = Asked(frozenset(), False)


@lru_cache(maxsize=4096)
def _read(prompt: str) -> Asked:
    """Cached: the candidates of one prompt come one after another."""
    explain = bool(_EXPLAIN.search(prompt)) and not _BRIEF.search(prompt)
    return Asked(frozenset(content_pieces(prompt)), explain)


def marks(response: str, parts: Sequence[Sentence], prompt: str | None = None) -> dict[str, float]:
    """Each mark from 0 (nothing to say) to 1. Without a prompt `thin` and `aside` cannot be told and are 0.

    `비타민은 몸에 좋습니다.` to `비타민이 왜 필요한지 설명해 주세요` → thin 0.71, the others 0.
    """
    said = without_code(response)
    latin = sum(map(len, _LATIN.findall(said)))
    lines = sum([not line.isspace() for line in response.split("\n") if line])
    # Counted where it matters: with foreign letters beside it, or with fewer lines than so many letters would want.
    counted = latin or lines < _lines_wanted(len(said))
    hangul = sum(map(len, HANGUL.findall(said))) if counted else 0
    asked = _read(prompt) if prompt else _NOTHING
    told = response.lower()
    taken = sum([piece in told for piece in asked.pieces]) / len(asked.pieces) if asked.pieces else 1.0
    sentences = sum([part.kind in ("prose", "item") for part in parts])
    thin = 1 - log(1 + sentences) / log(1 + _SENTENCES) if asked.explain else 0.0
    foreign = (latin / (latin + hangul) - 0.1) / 0.4 if latin else 0.0
    if foreign > 0 and prompt and (foreign_wanted(prompt) or format_wanted(prompt)):
        foreign = 0.0
    return {
        "dull": _between((0.92 - _variety(said)) / 0.5),
        "thin": _between(thin),
        "wall": _between(1 - lines / _lines_wanted(hangul)) if counted else 0.0,
        "again": float(_says_again(response, parts)),
        "closing": float(bool(_CLOSING.search(response))),
        "aside": _between(1 - taken * 2),
        "foreign": _between(foreign),
    }


def _lines_wanted(letters: int) -> float:
    """Up to 200 one line is enough."""
    return min(8.0, 1 + max(0, letters - 200) / 100)


def grade(found: Mapping[str, float], weights: Mapping[str, float] = MARK_WEIGHTS) -> float:
    """What the score is multiplied by: 1.0, 0.9 or 0.8."""
    total = sum([weights[name] * value for name, value in found.items() if value])
    return 1.0 - STEP * sum([total >= step for step in STEPS])


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


def _variety(said: str) -> float:
    """Mean share of distinct words in stretches of 40; for a shorter text, in the whole. Length does not matter."""
    words = list(NAMES.each(tokens(said)[:_MOST_WORDS]))
    size = len(words)
    if size < _LEAST_WORDS:
        return 1.0
    if size < _WINDOW:
        return len(set(words)) / size
    starts = {*range(0, size - _WINDOW, _STRIDE), size - _WINDOW}  # the last words count, too
    return sum([len(set(words[i : i + _WINDOW])) for i in starts]) / (_WINDOW * len(starts))
