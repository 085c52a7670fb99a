"""`assess`: is this answer natural Korean, and if not, what would a native reader object to?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from itertools import compress
from math import prod
from typing import Literal

from align_ko.korean import repetition, tagger
from align_ko.korean.characters import strange_characters
from align_ko.korean.emptiness import says_nothing
from align_ko.korean.ending import echo, unfinished
from align_ko.korean.english_words import english_words, with_values
from align_ko.korean.genre import (
    LISTED,
    ONE_WORD,
    REPETITION,
    REWRITES,
    SHORT,
    SLANG,
    VERSE,
    asked_for,
    longest_wanted,
    outside,
    question_at,
)
from align_ko.korean.grammar import mismatches, misplaced_honorifics
from align_ko.korean.language import foreign, word_in_english
from align_ko.korean.leaks import announced_only, no_answer, template_leak
from align_ko.korean.particles import wrong_particles
from align_ko.korean.prose import Sentence, Span, own_words, sentences, without_blocks
from align_ko.korean.score import counted, graded, marks
from align_ko.korean.sequences import aimless_sequence, doubled_words
from align_ko.korean.speech_level import Level, SpeechLevel, document_level
from align_ko.korean.spelling import wrong_spacing
from align_ko.korean.translationese import translationese
from align_ko.korean.words import ROOTS, roots_of, tokens
from align_ko.records import Assessment, Fault

WEIGHTS: dict[str, float] = {
    "empty": 1.0,
    "not_korean": 0.9,
    "repetition": 0.8,
    "template_leak": 0.7,
    "echo": 0.7,
    "no_answer": 0.6,
    "unfinished": 0.5,
    "strange_characters": 0.5,
    "code_switching": 0.4,
    "wrong_register": 0.5,
    "mixed_register": 0.4,
    "filler": 0.4,
    "chat_slang": 0.4,
    "too_short": 0.4,
    "too_long": 0.4,
    "honorific": 0.15,
    "grammar": 0.15,
    "wrong_particle": 0.15,
    "spacing": 0.15,
    "translationese": 0.05,
}
"""What one fault costs: the product of (1 - weight) over the codes found, each once, those of SLIPS up to five times."""

FAULT_CODES: tuple[str, ...] = tuple(WEIGHTS)
NATURAL = 0.7
"""Kept at least of a natural answer: one or two slips of spelling or spacing pass, anything heavier does not.

Faults alone decide. `translationese` and the marks of score.py lower the score, not the verdict."""
MOST_UNNATURAL = 0.68
"""The most that an answer which is not natural can score; where `kept` is 0.3 or less (English, loops, leaks) it is that."""

_SLANG = re.compile(  # every alternative opens with its letter, looking back only after it: so re skips from letter to letter
    r"ㅎㅇ|ㄱㅅ|ㅇㅇ|ㄴㄴ|ㅇㅋ|ㅈㅅ|ㅊㅋ|ㄹㅇ|ㄷㄷ|ㅅㄱ|ㅂㅂ|ㄱㄱ|ㅇㅈ|ㅁㅊ|ㅂㄷ|ㄲㅂ|ㄱㅇㄷ|뭐함\?|하잉|하이루|방(?<![가-힣].)가"
    r"|개꿀|핵(?<![가-힣].)(?:꿀|노잼|이득|존)|개(?:이득|노잼|쩔)|꿀잼|쩔(?<!에 .)(?<![가-힣].)(?:어|었|더|지|네|고|게|죠|ㄴ)"
    r"|쩐다|킹받|노답|노잼|존(?:맛|잘|예|버)|레알(?! ?(?:마드리드|소시에다드|베티스|바야돌리드|마요르카|사라고사))"
    r"|갓생|오(?<![가-힣].)(?:져|졌|진다)|개(?<![가-힣].)(?:덥|춥|좋|예쁘|귀엽|맛있|웃기|빡)|ㅋㅋ+|ㅎㅎ+|ㅠㅠ+|ㅜㅜ+"
)
_TOGETHER = 400  # answers that each detector sees in one go; phrases.py remembers the words of more
_MANY = 5
"""Where a refrain is wanted, only a loop of this many rounds is still a fault."""


def assess(
    response: str,
    prompt: str | None = None,
    finished: bool = True,
    expected: Literal["polite"] | None = "polite",
    *,
    min_characters: int = 2,
    max_characters: int = 4000,
    morphology: bool = True,
) -> Assessment:
    """Judge one answer. `finished=False`: generation hit its token limit. `expected=None`: any speech level will do.

    `morphology=False` goes by rules alone, without Kiwi's 316 MiB and its second of loading. Every detector still runs, but
    what only Kiwi can settle is let pass: of flipped particles 28 % are found instead of 98 % (책를 is, 사과을 is not), of
    answers cut at a word 90 % instead of 95 %, of documents with one sentence flipped 90 % instead of 99 %; false alarms
    do not grow (benchmarks/bench_korean.py --rules-alone).

    `assess("안녕하세요! 무엇을 도와드릴까요?")` → natural, score 1.0, polite
    `assess("안녕하세요. 안녕하세요. 제가 도와드리겠습니다. 도와드리겠습니다.")` → repetition, score 0.2
    """
    several = assess_each(
        [response],
        [prompt],
        [finished],
        expected,
        min_characters=min_characters,
        max_characters=max_characters,
        morphology=morphology,
    )
    return several[0]


def assess_each(
    responses: Sequence[str],
    prompts: Sequence[str | None] | None = None,
    finished: Sequence[bool] | None = None,
    expected: Literal["polite"] | None = "polite",
    *,
    min_characters: int = 2,
    max_characters: int = 4000,
    morphology: bool = True,
) -> list[Assessment]:
    """`assess` of many answers, in order, each beside its prompt; the same verdicts, a tenth sooner.

    Raises ValueError where there are not as many prompts, or values of `finished`, as answers.
    """
    asked: Sequence[str | None] = [None] * len(responses) if prompts is None else prompts
    ended: Sequence[bool] = [True] * len(responses) if finished is None else finished
    with nullcontext() if morphology else tagger.rules_alone():
        rows = list(zip(responses, asked, ended, strict=True))
        together = [rows[first : first + _TOGETHER] for first in range(0, len(rows), _TOGETHER)]
        return [one for some in together for one in _assess_some(some, expected, min_characters, max_characters)]


def _assess_some(
    rows: Sequence[tuple[str, str | None, bool]],
    expected: str | None,
    min_characters: int,
    max_characters: int,
) -> list[Assessment]:
    """Detector by detector, not answer by answer: so what one looks with stays in the processor's nearest memory."""
    speaks = [any(map(str.isalnum, text)) for text, _, _ in rows]
    said = list(compress(rows, speaks))
    texts, prompts = [row[0] for row in said], [row[1] for row in said]
    masked = [own_words(text) for text in texts]
    parts = [sentences(text, masked=own) for text, own in zip(texts, masked, strict=True)]
    both = list(zip(texts, parts, prompts, strict=True))
    levels = [document_level(text, parts=each, prompt=prompt) for text, each, prompt in both]
    found = [list(_form_faults(*row, own, min_characters, max_characters)) for row, own in zip(said, masked, strict=True)]
    for faults, row, own in zip(found, both, masked, strict=True):
        faults += _repetition_faults(*row, own)
    for faults, level, text, prompt in zip(found, levels, texts, prompts, strict=True):
        faults += _level_faults(level, text, prompt, expected, faults)
    for faults, own, (text, each, prompt) in zip(found, masked, both, strict=True):
        faults += _particle_faults(text, own, prompt)
        faults += _spelling_faults(own, each, prompt)
    for faults, own, prompt in zip(found, masked, prompts, strict=True):
        faults += _slang_faults(own, prompt)
    natural = [kept(counted([fault.code for fault in faults])) >= NATURAL for faults in found]
    for faults, own, (_, each, prompt) in zip(found, masked, both, strict=True):
        for clumsy in translationese(own, each, prompt):
            message = "번역 투입니다. 더 간결하게 쓸 수 있습니다."
            faults.append(Fault("translationese", clumsy.start, clumsy.end, message))
    marked = [marks(*row) for row in both]
    verdicts = map(_verdict, found, natural, marked, levels, texts, prompts)
    return [next(verdicts) if speaking else _empty(text) for (text, _, _), speaking in zip(rows, speaks, strict=True)]


def _empty(response: str) -> Assessment:
    return Assessment(False, 0.0, (Fault("empty", 0, len(response), "답변이 비어 있습니다."),), "unknown")


_ANYWHERE = frozenset(
    "not_korean repetition template_leak echo no_answer unfinished strange_characters too_short too_long".split()
)
"""Faults in any kind of text."""


def _verdict(
    faults: list[Fault], natural: bool, marked: dict[str, float], level: SpeechLevel, text: str, prompt: str | None
) -> Assessment:
    if _ANYWHERE.isdisjoint(fault.code for fault in faults) and (kind := outside(text, prompt)):
        return Assessment(True, 1.0, (), level.verdict, kind)
    faults.sort(key=lambda fault: (fault.start, fault.end))
    counts = counted([fault.code for fault in faults])
    score = bounded(graded(marked | counts), natural, counts)
    return Assessment(natural, score, tuple(faults), level.verdict)


def bounded(score: float, natural: bool, counts: Mapping[str, float]) -> float:
    """The score, rounded, and no higher than the faults allow, whatever a judge of content would forgive."""
    most = kept(counts)
    return round(min(score, most if natural or most <= 0.3 else MOST_UNNATURAL), 4)


def kept(counts: Mapping[str, float]) -> float:
    """Product of (1 - weight) over the codes, each as often as it counts."""
    return round(prod([(1.0 - WEIGHTS[code]) ** often for code, often in counts.items() if code in WEIGHTS]), 4)


def _form_faults(
    response: str, prompt: str | None, finished: bool, masked: str, min_characters: int, max_characters: int
) -> Iterator[Fault]:
    size = len(response)
    visible = len(response.strip())
    if visible < min_characters and not (prompt and SHORT.search(prompt)):
        yield Fault("too_short", 0, size, "답변이 너무 짧습니다.")
    longest = longest_wanted(prompt, max_characters)
    if visible > longest and (
        "```" not in response or sum(not letter.isspace() for letter in without_blocks(response)) > longest
    ):
        yield Fault("too_long", longest, size, "답변이 너무 깁니다.")
    leaks = template_leak(response, prompt)
    own = _without(response, leaks) if leaks else response  # Human: and Assistant: are no English
    other = foreign(own, prompt)
    if other.whole or word_in_english(own, prompt):
        yield Fault("not_korean", 0, size, "답변이 한국어가 아닙니다.")
    else:
        for span in other.spans[:3]:
            yield Fault("code_switching", span.start, span.end, "한국어 답변에 외국어 문장이 끼어 있습니다.")
        for span in english_words(with_values(own, own_words(own) if leaks else masked), prompt, text=own)[:5]:
            yield Fault("code_switching", span.start, span.end, "한국어로 쓸 자리에 영어 낱말이 섞여 있습니다.")
    for strange in strange_characters(response, prompt):
        yield Fault("strange_characters", strange.start, strange.end, "한국어 답변에 어울리지 않는 글자가 있습니다.")
    for leak in leaks:
        yield Fault("template_leak", leak.start, leak.end, "대화 형식 표시가 답변에 새어 나왔습니다.")
    if repeated := echo(response, prompt):
        yield Fault("echo", repeated.start, repeated.end, "답하지 않고 질문을 그대로 되풀이합니다.")
    if nothing := no_answer(response, prompt):
        yield Fault("no_answer", nothing.start, nothing.end, "질문에 대한 답이 없습니다.")
    if not finished:
        yield Fault("unfinished", max(0, len(response.rstrip()) - 1), size, "답변이 끝나지 않고 길이 제한에서 끊겼습니다.")
    elif tail := unfinished(
        response, free=bool(prompt and asked_for(prompt).level == "any" and asked_for(prompt).mixes), passage=prompt is None
    ) or (announced_only(response) if prompt is not None else None):
        yield Fault("unfinished", tail.start, tail.end, "답변이 끝나지 않았습니다.")


def _without(text: str, spans: Sequence[Span]) -> str:
    letters = list(text)
    for span in spans:
        letters[span.start : span.end] = " " * (span.end - span.start)
    return "".join(letters)


def _level_faults(
    level: SpeechLevel, response: str, prompt: str | None, expected: str | None, others: Sequence[Fault]
) -> Iterator[Fault]:
    genre = asked_for(prompt) if prompt else None
    if level.verdict == "mixed":
        for odd in [one for one in level.odd if not (prompt and _is_shown(one, response, prompt))][:3]:
            yield Fault("mixed_register", odd.start, odd.end, "높임말과 반말이 섞여 있습니다.")
        return
    if expected != "polite":
        return
    if genre and genre.level == "plain" and level.verdict == "polite":
        yield Fault("wrong_register", 0, len(response), "반말로 답해 달라고 했는데 높임말입니다.")
    if level.verdict not in ("plain", "archaic", "neutral") or (genre and genre.level != "polite"):
        return
    if prompt and len(response.split()) == 1 and ONE_WORD.search(prompt):
        return
    # A sentence that broke off before its predicate has no speech level: 관심 있는 분야를 정하고
    broken_off = any(fault.code in ("unfinished", "too_short") for fault in others)
    if not broken_off or any(item.sure for item in level.levels):
        yield Fault("wrong_register", 0, len(response), "높임말로 답해야 하는데 높임말이 아닙니다.")


def _is_shown(odd: Level, response: str, prompt: str) -> bool:
    """Does the plain sentence belong to a text that was asked for: a dialogue, or a draft or minutes in written -다?"""
    genre = asked_for(question_at(odd.start, response, prompt))
    return genre.mixes or (genre.level == "any" and odd.level in ("neutral", "hage"))


def _particle_faults(response: str, masked: str, prompt: str | None) -> Iterator[Fault]:
    about = _is_about_spelling(masked, prompt)
    for wrong in wrong_particles(masked, spelling=not about):
        said = response[wrong.start : wrong.end]
        yield Fault("wrong_particle", wrong.start, wrong.end, f"'{said}' 대신 '{wrong.right}' 꼴로 써야 합니다.")


_ABOUT_SPELLING = re.compile(r"맞춤법|띄어쓰기|표기|표준어|조사|오타|틀린|올바른|교정|비문|사물 ?존칭|높임법")


def _is_about_spelling(masked: str, prompt: str | None) -> bool:
    return "맞춤법" in masked or "표기" in masked or bool(prompt and _asks_about_spelling(prompt))


@lru_cache(maxsize=4096)
def _asks_about_spelling(prompt: str) -> bool:
    return bool(_ABOUT_SPELLING.search(prompt))


def _spelling_faults(masked: str, parts: list[Sentence], prompt: str | None) -> Iterator[Fault]:
    if _is_about_spelling(masked, prompt):
        return
    for gap in wrong_spacing(masked):
        yield Fault("spacing", gap.start, gap.end, "띄어쓰기가 맞지 않습니다.")
    for clash in mismatches(masked):
        yield Fault("grammar", clash.start, clash.end, "문장 성분의 호응이 맞지 않습니다.")
    # In a letter or a part that is played 나 may speak politely.
    spoken = not prompt or (asked_for(prompt).level == "polite" and "당신은" not in prompt)
    for odd in misplaced_honorifics(masked, parts if spoken else ()):
        yield Fault("honorific", odd.start, odd.end, "높임의 대상이 맞지 않습니다.")


def _slang_faults(masked: str, prompt: str | None) -> Iterator[Fault]:
    for slang in _SLANG.finditer(masked):
        if not (prompt and (slang.group() in prompt or SLANG.search(prompt))):
            yield Fault("chat_slang", slang.start(), slang.end(), "채팅에서나 쓰는 말투입니다.")


def _repetition_faults(response: str, parts: list[Sentence], prompt: str | None, masked: str) -> Iterator[Fault]:
    for run in repetition.character_runs(response)[:3]:
        yield Fault("repetition", run.start, run.end, "같은 글자가 지나치게 이어집니다.")
    bare = without_blocks(response)
    loop = repetition.first_loop(bare)
    if loop is None and "`" in response:  # equal lines of code are common, ten rounds of them are not
        loop = repetition.first_loop(response)
        loop = loop if loop and loop.repeats >= 2 * _MANY else None
    aimless = None if loop else aimless_sequence(bare, bare.split("\n"))
    doubled = [] if loop or aimless else doubled_words(masked)
    # Sentences said twice are phrases said twice: one fault for the reader, so one here.
    again = [] if loop else repetition.duplicate_sentences(response, parts, prompt)
    if not loop and (draft := repetition.quoted_again(bare)):
        again = [*again, draft]
    crowd = None if loop or again else repetition.filler(response, parts, prompt)
    empty = None if loop or again or crowd else says_nothing(response, parts, prompt)
    # Few answers repeat anything, so only then is the prompt asked whether it wants that.
    if not (loop or aimless or doubled or again or crowd or empty) or (prompt and REPETITION.search(prompt)):
        return
    verse = bool(prompt and VERSE.search(prompt))
    if loop and (not verse or loop.repeats >= _MANY):
        end = min(len(response), loop.start + loop.period_length * loop.repeats)
        yield Fault("repetition", loop.start, end, f"같은 말이 {loop.repeats}번 되풀이됩니다.")
    if aimless and (not verse or LISTED.search(prompt or "")):
        yield Fault("repetition", aimless.start, aimless.end, "새 내용 없이 같은 것을 늘어놓습니다.")
    if verse:
        # Who rewrites a sentence says it again; what the prompt does not say at all is stuffing there, too.
        if (
            crowd
            and REWRITES.search(prompt or "")
            and _most_said(response[crowd.start : crowd.end]) not in roots_of(prompt or "")
        ):
            yield _crowded(crowd)
        return
    for word in doubled[:3]:
        yield Fault("repetition", word.start, word.end, "같은 낱말을 잇달아 두 번 썼습니다.")
    for twice in again[:3]:
        yield Fault("repetition", twice.start, twice.end, "앞 문장과 거의 같은 문장입니다.")
    if empty and not again:
        code, where = empty
        said = "같은 내용을 말만 바꾸어 되풀이합니다." if code == "repetition" else "내용 없이 말만 채우고 있습니다."
        yield Fault(code, where.start, where.end, said)
    if crowd:
        yield _crowded(crowd)


def _crowded(span: Span) -> Fault:
    return Fault("filler", span.start, span.end, "같은 낱말이나 표현으로 답변을 채우고 있습니다.")


def _most_said(text: str) -> str:
    return max(filter(None, ROOTS.each(words := tokens(text))), key=[*ROOTS.each(words)].count, default="")
