"""What the reports share: the Jinja environment, its filters, both languages of texts and names. In HTML all passes through
autoescape, and nothing is marked safe but texts that a template itself contains; Markdown templates escape with filters."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from itertools import pairwise
from pathlib import PurePath
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from align_ko.errors import visible
from align_ko.evaluation.scores import FaultRow
from align_ko.records import Fault, Message, last_user_text
from align_ko.report.korean import NAMES, PAIR_FAULT_NAMES, in_korean
from align_ko.report.tables import clip, code_span, escape_bars, escape_markdown, interval, markdown_table, short


@dataclass(frozen=True)
class Both:
    """A text in two languages, of which the page shows one (page.css); each alone for attributes."""

    ko: Markup
    en: Markup

    def __html__(self) -> Markup:
        if self.ko == self.en:
            return self.ko
        return Markup('<span class="ko">{}</span><span class="en">{}</span>').format(self.ko, self.en)


def both(korean: str, english: str) -> Both:
    return Both(escape(visible(korean)), escape(visible(english)))


def bilingual(korean: str, english: str, *values: object) -> Both:
    """A text of a template, Korean and English side by side, with escaped `values` for its {}: `t("{}행", "{} rows", 3)`"""
    shown = [visible(value) if type(value) is str else value for value in values]
    ko, en = ([getattr(value, side, value) for value in shown] for side in ("ko", "en"))
    return Both(Markup(korean).format(*ko), Markup(english).format(*en))


def named(names: Mapping[str, str], code: str) -> Both:
    """A code under its Korean name, and in English as it is: `wrong_particle` → 조사·맞춤법 오류, wrong particle"""
    return both(names[code], code.replace("_", " ")) if code in names else both(code, code)


def render(template: str, **values: object) -> str:
    """A template of this package with `values`. A name that is missing is an error."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("align_ko.report", "templates"),
        autoescape=lambda name: not (name or "").endswith(".md.jinja"),
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,  # no control character of the data in a page
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, names in NAMES.items():
        made.filters[name] = partial(named, names)
    made.filters |= {
        "n": number,
        "percent": percent,
        "whole": "{:.0%}".format,
        "points": points,
        "duration": duration,
        "signed": signed,
    }
    made.filters |= {"interval": interval, "short": short, "by": written_by, "said": said}
    made.filters |= {"bars": escape_bars, "basename": lambda path: PurePath(path).name}
    made.globals |= {"t": bilingual, "both": both}
    made.filters |= {"label": lambda text: visible(clip(str(text)))}
    made.filters["sha256"] = lambda script: b64encode(sha256(script.encode()).digest()).decode()  # the only script that may run
    made.filters |= {"earlier": earlier_turns, "question": last_user_text, "fold": fold}
    made.filters |= {"md": escape_markdown, "code": code_span, "table": markdown_table}
    return made


def number(value: float) -> str:
    """1200 → 1,200; 85.25 → 85.2."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def percent(share: float) -> str:
    """Whole percents, and a tenth where less than ten are: 50%, 3.4%, 99.8%."""
    return f"{100 * share:.1f}%" if 0 < share < 0.0995 or 0.9 < share < 1 else f"{100 * share:.0f}%"


def duration(seconds: float) -> Both:
    """2.6 → 2.6초, 2.6 s; 754 → 12분 34초, 12 min 34 s; 7500 → 2시간 5분, 2 h 5 min."""
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return bilingual("{}시간 {}분", "{} h {} min", hours, minutes)
    if seconds >= 60:
        return bilingual("{}분 {}초", "{} min {} s", *divmod(round(seconds), 60))
    return bilingual("{}초", "{} s", number(seconds))


def points(value: float) -> str:
    """-0.2 → 0%p, 3.4 → +3%p, -3.4 → −3%p."""
    return f"{value:+.0f}".replace("+0", "0").replace("-0", "0").replace("-", "−") + "%p"


def signed(share: float) -> str:
    """-0.2 → −20%, 0 → 0%."""
    return f"{100 * share:+.0f}%".replace("-", "−") if round(100 * share) else "0%"


def written_by(by: str) -> Both:
    """Who wrote a side of a pair: reference → 모범 답안, spoilt: echo → 망가뜨림 (질문 되풀이)."""
    if by.startswith("spoilt: "):
        return bilingual("망가뜨림 ({})", "spoilt ({})", named(PAIR_FAULT_NAMES, by.removeprefix("spoilt: ")))
    names = {"reference": "모범 답안", "greedy": "greedy (기본 디코딩)", "given": "주어진 답변", "": "기록 없음"}
    return both(names.get(by, by), by or "not recorded")


def said(text: str) -> Both:
    """A sentence that Python made: `both sides nearly the same` → 두 답변이 거의 같음"""
    return both(in_korean(text), text)


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: `width` in percent of the longest."""

    count: int
    share: float
    width: float


def bars(counts: Mapping[str, int]) -> dict[str, Bar]:
    """Counts with their shares of the whole, and widths in percent of the largest: 3 and 1 → .75 and .25, 100 and 33.3."""
    total, most = sum(counts.values()) or 1, max(counts.values(), default=0) or 1
    return {name: Bar(count, count / total, round(100 * count / most, 1)) for name, count in counts.items()}


# -------------------- texts with faults and changes marked, long ones folded

CLIP = 340  # characters of a text that are shown before "더 보기"
CLIP_LINES = 12
# faults of the answer as a whole: a badge says so, underlining every word would not help
_WHOLE_ANSWER = frozenset({"empty", "too_short", "not_korean", "wrong_register"})
_LEAD = 120  # characters of the beginning that are shown where the first mark comes much later
_AROUND = 100  # characters shown before that mark
_WORTH_CLIPPING = 90  # a shorter rest is simply shown


def clip_at(text: str) -> int:
    """Where "더 보기" begins: after CLIP characters or CLIP_LINES lines, at a space if one is near; else at the end."""
    lines = [place for place, char in enumerate(text) if char == "\n"]
    cut = min(CLIP, lines[CLIP_LINES - 1] if len(lines) >= CLIP_LINES else CLIP)
    if len(text) - cut < _WORTH_CLIPPING:
        return len(text)
    space = max(text.rfind(" ", cut - 30, cut), text.rfind("\n", cut - 30, cut))
    return space + 1 if space > 0 else cut


class Part(NamedTuple):
    """A stretch of a text, marked or not; `tip` says why."""

    text: str
    marked: bool
    tip: str = ""


class Piece(NamedTuple):
    folded: bool
    parts: list[Part]
    characters: int


def fold(text: str, faults: Iterable[Fault | FaultRow]) -> list[Piece]:
    """An answer with its faults marked, folded where it is long; a filter of the templates."""
    return pieces(segments(text, [fault if isinstance(fault, Fault) else Fault(**fault) for fault in faults]))[0]


def segments(text: str, faults: Sequence[Fault]) -> list[Part]:
    """The text cut wherever a fault begins or ends, so that overlapping faults need no nested marks."""
    local = [fault for fault in faults if fault.code not in _WHOLE_ANSWER]
    edges = {0, len(text)} | {edge for f in local for edge in (f.start, f.end) if 0 < edge < len(text)}
    parts = []
    for left, right in pairwise(sorted(edges)):
        tips = dict.fromkeys(f.message for f in local if f.start <= left and right <= f.end)
        parts.append(Part(text[left:right], bool(tips), " / ".join(tips)))
    return parts


def pieces(parts: Sequence[Part], limit: int = sys.maxsize) -> tuple[list[Piece], int]:
    """(pieces, characters beyond `limit`, which are left out). The beginning is shown and the rest folded, all but the text
    around the first mark, where that is in the rest."""
    text = "".join(part.text for part in parts)
    whole = text[:limit]
    cut = clip_at(whole)
    first = next((sum(len(part.text) for part in parts[:n]) for n, part in enumerate(parts) if part.marked), 0)
    if first < cut:
        edges = [0, cut]
    elif first - _AROUND <= _LEAD * 2:
        edges = [0, min(first + CLIP, len(whole))]
    else:
        edges = [0, _LEAD, first - _AROUND, first - _AROUND + CLIP]
        whole = text[: max(limit, edges[-1])] if limit else whole  # a mark beyond the limit brings its surroundings with it
    edges = [min(edge, len(whole)) for edge in edges] + [len(whole)]
    made = [
        Piece(place % 2 == 1, [part._replace(text=visible(part.text)) for part in _between(parts, start, end)], end - start)
        for place, (start, end) in enumerate(pairwise(edges))
        if end > start
    ]
    return made, len(text) - len(whole)


def _between(parts: Sequence[Part], start: int, end: int) -> Iterable[Part]:
    """The stretch `start:end` of the joined text, still in parts."""
    place = 0
    for part in parts:
        inside = part.text[max(start - place, 0) : max(end - place, 0)]
        if inside:
            yield part._replace(text=inside)
        place += len(part.text)


def earlier_turns(prompt: Sequence[Message]) -> Sequence[Message]:
    return prompt[: max((place for place, message in enumerate(prompt) if message["role"] == "user"), default=0)]
