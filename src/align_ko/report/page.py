"""What the reports share: the Jinja environment, its filters, Korean names of codes. In HTML all passes through autoescape and
nothing is marked safe; Markdown templates escape with filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from align_ko.errors import visible
from align_ko.records import last_user_text
from align_ko.report.marked_text import earlier_turns, fold
from align_ko.report.tables import clip, code_span, escape_bars, escape_markdown, interval, markdown_table, short


def load_yaml(name: str) -> dict[str, dict[str, str]]:
    """Words of the reports, from the folder of templates."""
    words: dict[str, dict[str, str]] = yaml.safe_load(files("align_ko.report").joinpath("templates", name).read_bytes())
    return words


_NAMES = load_yaml("names.yaml")
FAULT_NAMES = _NAMES["fault"]
PAIR_FAULT_NAMES = FAULT_NAMES | _NAMES["pair_fault"]
REASON_NAMES = FAULT_NAMES | _NAMES["reason"]
_FILTERS = _NAMES | {"fault": PAIR_FAULT_NAMES, "reason": REASON_NAMES}


def render(template: str, **values: object) -> str:
    """A template of this package with `values`. A name that is missing is an error."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("align_ko.report", "templates"),
        autoescape=lambda name: not (name or "").endswith(".md.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, names in _FILTERS.items():
        made.filters[name] = lambda code, names=names: names.get(code, code)
    made.filters |= {"n": number, "percent": percent, "whole": "{:.0%}".format, "points": points, "signed": signed}
    made.filters |= {"interval": interval, "short": short, "by": written_by, "dropped_pair": dropped_pair}
    made.filters |= {"bars": escape_bars, "basename": lambda path: PurePath(path).name}
    made.filters |= {"visible": visible, "label": lambda text: visible(clip(str(text)))}
    made.filters |= {"earlier": earlier_turns, "question": last_user_text, "fold": fold}
    made.filters |= {"md": escape_markdown, "code": code_span, "table": markdown_table}
    return made


def number(value: float) -> str:
    """1200 → 1,200; 85.25 → 85.2."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def percent(share: float) -> str:
    """Whole percents, and a tenth where less than ten are: 50%, 3.4%, 99.8%."""
    return f"{100 * share:.1f}%" if 0 < share < 0.0995 or 0.9 < share < 1 else f"{100 * share:.0f}%"


def points(value: float) -> str:
    """-0.2 → 0%p, 3.4 → +3%p, -3.4 → −3%p."""
    return f"{value:+.0f}".replace("+0", "0").replace("-0", "0").replace("-", "−") + "%p"


def signed(share: float) -> str:
    """-0.2 → −20%, 0 → 0%."""
    return f"{100 * share:+.0f}%".replace("-", "−") if round(100 * share) else "0%"


def written_by(by: str) -> str:
    """Who wrote a side of a pair: reference → 모범 답안, spoilt: echo → 망가뜨림 (질문 되풀이)."""
    if by.startswith("spoilt: "):
        fault = by.removeprefix("spoilt: ")
        return f"망가뜨림 ({PAIR_FAULT_NAMES.get(fault, fault)})"
    return {"reference": "모범 답안", "greedy": "greedy (기본 디코딩)"}.get(by, by)


def dropped_pair(reason: str) -> str:
    """Why a pair was dropped, in Korean: `share of filler is full` → 빈말 채우기의 몫이 다 참"""
    if reason in _NAMES["dropped_pair"]:
        return _NAMES["dropped_pair"][reason]
    words = reason.split()
    if reason.startswith("share of "):
        return f"{PAIR_FAULT_NAMES.get(words[2], words[2])}의 몫이 다 참"
    if reason.startswith("synthetic: assess finds no "):
        return f"망가뜨렸으나 뜻한 결함({PAIR_FAULT_NAMES.get(words[4], words[4])})이 나타나지 않음"
    return reason


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: `width` in percent of the longest."""

    count: int
    share: float
    width: float


def bars(counts: Mapping[str, int]) -> dict[str, Bar]:
    """Counts with their shares of the whole, and widths in percent of the largest: 3 and 1 → shares .75 and .25, widths 100 and
    33.3."""
    total, most = sum(counts.values()) or 1, max(counts.values(), default=0) or 1
    return {name: Bar(count, count / total, round(100 * count / most, 1)) for name, count in counts.items()}
