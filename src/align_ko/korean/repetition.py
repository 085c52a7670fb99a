"""Loops, near-duplicate sentences and character runs; word stuffing is in stuffing.py."""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from align_ko.korean.prose import MARKER, Sentence, Span, sentences
from align_ko.korean.stuffing import filler
from align_ko.korean.words import Recall

__all__ = ["Loop", "Span", "character_runs", "cut_loop", "duplicate_sentences", "filler", "first_loop"]

_WORD = re.compile(r"\S+")
_DIGITS = re.compile(r"\d+")
_COUNTED = Recall(lambda word: _DIGITS.sub("0", word))
_HANGUL = re.compile(r"[가-힣]")
_LETTER_RUN = re.compile(
    r"([^\s\-=_*#|.·─━―—–═▬⎯~+0-9])\1{6,}|([!?])\2{4,}|([ㅋㅎㅠㅜ])\3{5,}|([.~…])\4{9,}"
    # digits without end (0.5555…, 000,000,000,…) and pages of blank lines
    r"|(\d{1,4}[,.]?)\5{15,}|\n\s{60,}"
)
# What a run has that is shorter than seven letters, or is no part of a word.
_SHORT_RUNS = ("!!!!!", "?????", "ㅋㅋㅋㅋㅋㅋ", "ㅎㅎㅎㅎㅎㅎ", "ㅠㅠㅠㅠㅠㅠ", "ㅜㅜㅜㅜㅜㅜ")
_BLANK_PAGE = re.compile(r"\n\s{60}")
_TIGHT_LOOP = re.compile(r"([^\s\d]{2,40}?)\1{3,}")
_PLAIN = re.compile(r"[^0-9A-Za-z가-힣]+")


_PRODUCT = re.compile(r"[\dxX×*·+.,()-]+")
_EQUATION = re.compile(r"[=×÷^]")


class Loop(NamedTuple):
    """`text[start : start + period_length * repeats]` is the loop; `repeats` counts whole periods."""

    start: int
    period_length: int
    repeats: int


def _word_loop(words: list[str], least: int) -> tuple[int, int, int] | None:
    """First (word index, period in words, periods) of `least` or more equal periods."""
    counts = Counter(words)  # in a loop every word comes as often as it has rounds
    begin = 0
    for row in bytes([counts[word] >= least for word in words]).split(b"\0"):
        if len(row) >= least:
            near = words[begin : begin + len(row)]
            # Every pair of neighbours in a loop comes back, but for one round's.
            if len(set(pairwise(near))) <= len(near) + 1 - least and (loop := _loop_among(near, least)):
                return begin + loop[0], loop[1], loop[2]
        begin += len(row) + 1
    return None


def _loop_among(words: list[str], least: int) -> tuple[int, int, int] | None:
    """As `_word_loop`. A period is a distance at which a word or a pair of words comes back twice in a row, or at once."""
    last: dict[object, int] = {}
    gap: dict[object, int] = {}
    reached: dict[int, int] = {}  # by period: where the last run of words that come back at this distance ended
    best: tuple[int, int, int] | None = None
    before = ""
    for index, word in enumerate(words):
        for key in (word, (before, word)):
            period = index - last.get(key, index)
            if period and (gap.get(key) == period or period == 1) and reached.get(period, 0) <= index:
                start, end = index, index + 1
                while start > period and words[start - 1] == words[start - 1 - period]:
                    start -= 1
                while end < len(words) and words[end] == words[end - period]:
                    end += 1
                reached[period] = end
                if end - start >= period * (least - 1):
                    found = (start - period, period, (end - start) // period + 1)
                    best = min(best or found, found)
            gap[key], last[key] = period, index
        before = word
    return best


def _may_run(words: list[str]) -> bool:
    """Can a word hold a run of seven equal letters, or four equal pieces of two? Then six of its letters come back."""
    return any([len(word) - len(set(word)) >= 6 for word in words if len(word) >= 7])


@lru_cache(maxsize=2)
def _split(text: str) -> tuple[list[str], bool]:
    """The words of an answer and whether letters can run on in one: asked for twice."""
    words = text.split()
    return words, _may_run(words)


def first_loop(text: str) -> Loop | None:
    """The first stretch that says the same thing three or more times in a row (counters may count on).

    `가자 나무 가자 나무 가자 나무` → (0, 6, 3); `1단계를 합니다. 2단계를 합니다. …` four times → a loop too.
    """
    words, may_run = _split(text)
    found: list[Loop] = []
    # What counts on has a number in each of four rounds; without its numbers every loop is one.
    counted = list(_COUNTED.each(words)) if len(_DIGITS.findall(text)) >= 4 else words
    hit, counting = _word_loop(counted, 3), False
    if hit is not None and counted is not words:
        hit = _word_loop(words, 3)
        hit, counting = (hit, False) if hit else (_word_loop(counted, 4), True)
    if hit is not None:
        index, period, repeats = hit
        spans = [match.span() for match in _WORD.finditer(text)]
        start = spans[index][0]
        stop = spans[index + period * repeats - 1][1]
        one = "".join(words[index : index + period])
        weight = sum(map(str.isalnum, one)) * repeats
        # A counted-on phrase needs some length: 1월 31일 2월 28일 3월 31일 is a table.
        enough = weight >= 8 and any(map(str.isalpha, one)) and (not counting or len(_HANGUL.findall(one)) >= 8)
        # 3 x 3 x 3 x 3 is a product, 3의 1제곱 = 3, 3의 2제곱 = 9 a table
        enough = enough and not _PRODUCT.fullmatch(one) and not (counting and _EQUATION.search(one))
        if enough:
            length = spans[index + period][0] - start
            if not counting and stop - start + 1 < length * repeats:
                length = (stop - start + 1) // repeats
            found.append(Loop(start, length, repeats))
    tight = _TIGHT_LOOP.search(text) if may_run else None
    if tight and any(map(str.isalpha, tight[1])):
        found.append(Loop(tight.start(), len(tight[1]), (tight.end() - tight.start()) // len(tight[1])))
    return min(found) if found else None


def cut_loop(text: str, periods: int = 3) -> str:
    """Keep `periods` rounds of the first loop, drop the rest: `아 네 아 네 아 네 아 네` → `아 네 아 네 아 네`."""
    loop = first_loop(text)
    if loop is None or loop.repeats <= periods:
        return text
    return text[: loop.start + loop.period_length * periods].rstrip()


def character_runs(text: str) -> list[Span]:
    """`좋아요ㅋㅋㅋㅋㅋㅋㅋ` → the run of ㅋ."""
    if not any([sign in text for sign in _SHORT_RUNS]) and not _BLANK_PAGE.search(text) and not _split(text)[1]:
        return []
    return [Span(*match.span()) for match in _LETTER_RUN.finditer(text)]


_QUOTED = re.compile(r"[\"'“‘「`]([^\"'”’」`]{1,200}[\"'”’」`]\S*)")


_QUOTED_LINE = re.compile(r"[\"“‘「][^\n]{15,400}[\"”’」]")


_LONG_QUOTATION = re.compile(r"[\"“‘「][^\n]{15}")  # in every quotation that is a line


def quoted_again(text: str) -> Span | None:
    """The second of two lines that are the same quotation, where quotations are the answer: one draft given as two."""
    if "\n" not in text or not _LONG_QUOTATION.search(text):
        return None
    seen: set[str] = set()
    again: Span | None = None
    begin = quoted = lines = 0
    for line in text.split("\n"):
        marker = MARKER.match(line)
        said = line[marker.end() if marker else 0 :].strip()
        lines += bool(said)
        if _QUOTED_LINE.fullmatch(said) and len(_HANGUL.findall(said)) > 8:
            quoted += 1
            again = again or (Span(begin, begin + len(line)) if said in seen else None)
            seen.add(said)
        begin += len(line) + 1
    return again if quoted * 2 >= lines else None


_FLATS = Recall(lambda word: _PLAIN.sub("", word))
_flat = _FLATS.__getitem__


_RIVALS = 64
"""With so many of the earlier sentences that hold one word a sentence is compared, the latest: so time stays linear."""


def _near(first: list[str], second: list[str]) -> bool:
    """At most one word changed, added or dropped in a short sentence, two in a longer one."""
    longer = max(len(first), len(second))
    if longer < 4 or abs(len(first) - len(second)) > 2:
        return False
    shared = sum((Counter(first) & Counter(second)).values())
    return longer - shared <= (1 if longer < 7 else 2)


# Formulas and counts differ where it matters: 12 - 1 = 11자루.
_UNLIKE = re.compile(r"[=\\$^<>{}|]|\d")
_LABEL = re.compile(r"[A-Z](?:[가-힣]{0,3})")  # A는 진실을 말합니다. B는 진실을 말합니다.
_ORDINALS = frozenset({"첫", "두", "세", "네", "첫째", "둘째", "셋째", "넷째"})
_CONCLUDES = re.compile(
    r"\W*(?:따라서|결론적으로|요약하|정리하|즉|이에 따라|그러므로|결국)"
)  # an answer may end on its first words
_EMPHASIS = frozenset("정말 아주 매우 참 무척 꽤 너무 늘 항상 진짜 더 더욱 특히 그러니까 그래서 그리고 또 또한 역시".split())
_SUMS_UP = re.compile(r"\W*(?:요약하|정리하|결론적으로|종합하)")  # … and then the whole last paragraph may
_CONTRASTS = frozenset({"반면", "반면에", "반대로"})
_LEAD = re.compile(  # what a sentence said again opens with
    r"\W*(?:\d{1,2}[.)] ?|(?:다시 말해서?|다시 말하면|그러니까|한마디로 말하면|한마디로|요컨대|결국|즉|역시|물론|또한"
    r"|그리고|특히|늘|꼭|정말|아무튼|어쨌든|참고로|마찬가지로|더불어|게다가),?(?=\s))\s*"
)
_INTRODUCES = re.compile(r"[::][^\w::]*$|다음과 같|아래와 같")


def _topic_differs(said: str, words: list[str], model: list[str]) -> bool:
    """`'가을'은 명사입니다.` after `'봄'은 명사입니다.`: the word in quotation marks is what the sentence is about.

    So is what a case is named by (`물감의 경우 …`, `빛의 경우 …`) and what `반면에` sets against the sentence before.
    """
    new = set(words) - set(model)
    if words[0] in _CONTRASTS and model[0] not in _CONTRASTS and len(new) > 1:
        return True
    if words[0] in new and words[0].endswith("의") and words[1].startswith("경우") and model[1].startswith("경우"):
        return True
    if new & _ORDINALS or any(_LABEL.fullmatch(word) for word in new):
        return True
    return any(word and word in new for quoted in _QUOTED.findall(said) for word in map(_flat, quoted.split(" ")))


def duplicate_sentences(text: str, parts: list[Sentence] | None = None, prompt: str | None = None) -> list[Span]:
    """Sentences that repeat an earlier one, with at most one or two words changed; spans of the repeats.

    `고객을 위해 늘 노력하고 있습니다. 가족을 위해 늘 노력하고 있습니다.` → the second sentence.
    `제가 도와드리겠습니다. 도와드리겠습니다.` → the second sentence.
    `잠은 중요합니다. 잠은 정말 중요합니다. 잠은 아주 중요합니다.` → the third.
    A repeat right after its model always counts. One further down counts when repeats fill a fifth of the answer:
    two sections of a long answer may well end in the same words. Sentences that the prompt already holds never count.
    """
    parts = sentences(text) if parts is None else parts
    asked = _PLAIN.sub("", prompt) if prompt else ""
    seen: list[list[str]] = []
    flats: dict[str, int] = {}
    by_word: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_RIVALS))
    next_door: list[Span] = []
    further: list[Span] = []
    total = repeated_letters = items = 0
    previous, previous_kind, last_end = "", "", 0
    newest = -2  # the sentence that `seen` ends with: a sum or a formula may stand between it and this one
    summing_up = False
    bare, emphatic = "", 0
    for number, part in enumerate(parts):
        if part.kind in ("table", "heading"):
            previous = ""
            continue
        if "\n" in text[last_end : part.start]:
            summing_up = False
        if part.kind == "item" and part.text[0] == "(" and part.text[-1] == ")":  # (찾을 수 없음) in a list of fields
            continue
        said = text[part.start : part.end]  # with its quotations: '사과'는 명사입니다 and '먹다'는 동사입니다 differ
        lead = _LEAD.match(said)
        said = said[lead.end() :] if lead else said
        words = list(filter(None, _FLATS.each(said.split())))
        flat = "".join(words)
        letters = len(_HANGUL.findall(flat))
        total += letters
        if letters < 4 or (asked and letters >= 8 and flat in asked):
            previous = ""
            continue
        span = Span(part.start, part.end)
        doubtful = bool(_UNLIKE.search(said))
        summing_up = summing_up or bool(_SUMS_UP.match(said))
        introduces = bool(_INTRODUCES.search(said))
        before, bare = bare, "".join(w for w in words if w not in _EMPHASIS)
        emphatic = emphatic + 1 if bare == before else 0
        if flat == previous or emphatic >= 2 or (letters >= 6 and previous_kind == part.kind and previous.endswith(flat)):
            next_door.append(span)
        elif not doubtful and letters >= 8 and len(words) >= 3:
            model = flats.get(flat)
            if model is None and len(words) >= 4 and sum(map(by_word.__contains__, words)) >= len(words) - 2:
                rivals = Counter(i for word in dict.fromkeys(words) for i in by_word.get(word, ()))
                model = next((i for i, both in rivals.items() if both * 2 >= len(words) and _near(seen[i], words)), None)
            if model is not None and not _topic_differs(said, words, seen[model]):
                close = model == len(seen) - 1 and newest >= number - 1 and part.kind == "prose"
                same_line = "\n" not in text[last_end : part.start]
                if close and (same_line or not introduces):
                    next_door.append(span)
                    repeated_letters += letters
                elif not introduces and not (_CONCLUDES.match(said) and flat not in flats) and not summing_up:
                    further.append(span)
                    repeated_letters += letters
                    items += part.kind == "item"
            flats[flat] = len(seen)
            for word in set(words):
                by_word[word].append(len(seen))
            seen.append(words)
            newest = number
        previous, previous_kind, last_end = flat, part.kind, part.end
    if repeated_letters >= total * (0.4 if items * 2 > len(further) else 0.2):
        return sorted(next_door + further)
    return next_door
