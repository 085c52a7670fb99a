"""Where an answer took a wrong turn: the letters in whose place something else should have been said."""

from __future__ import annotations

from collections.abc import Iterator

from align_ko.korean.prose import Span
from align_ko.korean.speech_level import document_level
from align_ko.korean.words import HANGUL, ROOTS
from align_ko.records import Assessment, Fault

_AT_THE_END = frozenset({"mixed_register", "wrong_particle"})
_SAID_AGAIN = frozenset({"repetition", "filler"})
_OPENS = frozenset({"code_switching", "strange_characters", "template_leak", "echo", "chat_slang"})


def wrong_turns(text: str, judged: Assessment, prompt: str | None = None) -> list[int]:
    """Places in `text`, ascending, that the faults of `judged` (`assess(text, prompt)`) go back to; `len(text)` where it must
    not end yet. None for what has no one place (`not_korean`, `too_short`).

    A fault of speech level lies in the last letter of a sentence, loops and stuffing in the first letter of each word that
    was said before, other faults in the letter that opens them.

    `좋습니다. 근데 그건 아니야.` → [14], 야; `나무를 심고 나무를 심고 나무를 심어 갑니다.` → the second and third 나 and 심
    """
    found = {place for fault in judged.faults for place in _places(text, fault, prompt)}
    return sorted(found)


def _places(text: str, fault: Fault, prompt: str | None) -> Iterator[int]:
    if fault.code == "wrong_register":  # every sentence is at fault
        for level in document_level(text, prompt=prompt).levels:
            yield from _last_letter(text, Span(level.start, level.end))
    elif fault.code in _AT_THE_END:
        yield from _last_letter(text, Span(fault.start, fault.end))
    elif fault.code in _SAID_AGAIN:
        yield from _words_again(text, Span(fault.start, fault.end))
    elif fault.code in _OPENS:
        yield fault.start
    elif fault.code == "unfinished":
        yield len(text)


def _last_letter(text: str, span: Span) -> Iterator[int]:
    letters = [place for place in range(span.start, span.end) if "가" <= text[place] <= "힣"]
    yield from letters[-1:]


def _words_again(text: str, span: Span) -> Iterator[int]:
    said: set[str] = set()
    for word in HANGUL.finditer(text, 0, span.end):
        root = ROOTS[word[0]]
        if root in said and word.start() >= span.start:
            yield word.start()
        said |= {root} - {""}  # of a grammatical word
