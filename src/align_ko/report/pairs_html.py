"""The report on preference pairs as one self-contained HTML file for readers of Korean: nothing is loaded from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from align_ko.korean import assess
from align_ko.records import PreferencePair, atomic_write, last_user_text
from align_ko.report.evaluation_html import segments
from align_ko.report.page import FAULT_NAMES, clip_at, environment

ORIGIN_NAMES = {"repair": "교정", "contrast": "대조", "synthetic": "합성"}
FAULTS = FAULT_NAMES | {"irrelevant": "질문과 무관", "none": "결함 없음"}
DROPPED_NAMES = {
    "greedy answer is as good": "기본 디코딩의 답변도 충분히 좋음",
    "no natural candidate, and no reference": "자연스러운 후보도 모범 답안도 없음",
    "no natural candidate, and the share of references is full": "자연스러운 후보가 없고 모범 답안의 몫이 다 참",
    "both sides nearly the same": "두 답변이 거의 같음",
    "rejected side much shorter: DPO would learn length": "거부된 답변이 훨씬 짧아 길이를 배우게 됨",
    "both sides share the filler": "두 답변을 같은 빈말이 채움",
    "chosen answer is generic: other prompts are answered so too": "다른 질문에도 쓰인 뻔한 답변을 선택함",
    "share of contrasts is full": "대조 쌍의 몫이 다 참",
    "share of candidates is full": "모델 후보를 선택한 쌍의 몫이 다 참",
    "an evaluation prompt, or too near to one": "평가 질문이거나 그와 거의 같음",
    "synthetic: the answer to spoil is not natural itself": "망가뜨릴 답변부터 자연스럽지 않음",
    "synthetic: rejected side much shorter: DPO would learn length": "망가뜨린 답변의 길이가 맞지 않음",
}


def dropped_name(reason: str) -> str:
    """The reason in Korean; those that name a fault are put together here.

    >>> dropped_name("share of filler is full")
    '빈말 채우기의 몫이 다 참'
    """
    if reason in DROPPED_NAMES:
        return DROPPED_NAMES[reason]
    words = reason.split()
    if reason.startswith("share of "):
        return f"{FAULTS.get(words[2], words[2])}의 몫이 다 참"
    if reason.startswith("synthetic: assess finds no "):
        return f"망가뜨렸으나 뜻한 결함({FAULTS.get(words[4], words[4])})이 나타나지 않음"
    return reason


def bars(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Counts with their shares of the whole, and widths relative to the largest.

    >>> bars({"repetition": 3, "filler": 1})[1]
    {'name': 'filler', 'count': 1, 'share': 0.25, 'width': 33.3}
    """
    total, most = sum(counts.values()) or 1, max(counts.values(), default=0) or 1
    return [
        {"name": name, "count": count, "share": count / total, "width": round(100 * count / most, 1)}
        for name, count in counts.items()
    ]


def card(pair: PreferencePair) -> dict[str, Any]:
    """One pair side by side, the faults of both underlined."""
    question = last_user_text(pair.prompt)
    asked = max((place for place, message in enumerate(pair.prompt) if message["role"] == "user"), default=0)
    sides = [
        _side("chosen", pair.chosen[0]["content"], True, question, pair.chosen_by, pair.chosen_score),
        _side("rejected", pair.rejected[0]["content"], pair.rejected_finished, question, pair.rejected_by, pair.rejected_score),
    ]
    sides[1]["codes"] += [code for code in pair.rejected_faults if code not in sides[1]["codes"]]
    return {"origin": pair.origin, "question": question, "earlier": list(pair.prompt[:asked]), "sides": sides}


def _side(name: str, text: str, finished: bool, question: str, by: str, score: float) -> dict[str, Any]:
    read = assess(text, question, finished)
    faults = [asdict(fault) for fault in read.faults]
    cut = clip_at(text)
    return {
        "name": name,
        "by": by,
        "score": score,
        "characters": len(text),
        "finished": finished,
        "codes": read.codes,
        "notes": list(dict.fromkeys((fault.code, fault.message) for fault in read.faults)),
        "shown": segments(text, faults, 0, cut),
        "rest": segments(text, faults, cut),
        "rest_characters": len(text) - cut,
    }


def render_html(summary: Mapping[str, Any], pairs: Sequence[PreferencePair], recipe: str = "") -> str:
    """The whole page: `summary` is what report.json holds, `pairs` those to read."""
    templates = environment()
    filters: dict[str, Any] = {
        "n": _number,
        "percent": lambda share: f"{100 * share:.0f}%",
        "signed": _signed,
        "origin": lambda name: ORIGIN_NAMES.get(name, name),
        "fault": lambda code: FAULTS.get(code, code),
        "reason": dropped_name,
        "by": _written_by,
    }
    templates.filters |= filters
    return templates.get_template("pairs.html.jinja").render(
        summary=summary,
        origins=bars(summary["origin"]),
        faults=bars(summary["rejected_for"]),
        by_origin=Counter({(row["origin"], row["fault"]): row["pairs"] for row in summary["origin_and_fault"]}),
        chosen_by=bars(summary["chosen_by"]),
        rejected_by=bars(summary["rejected_by"]),
        dropped=bars(summary["dropped"]),
        gaps=bars({str(low): count for low, count in summary["length_gaps"]}),
        cards=[card(pair) for pair in pairs],
        recipe=recipe,
    )


def _number(value: float) -> str:
    """1200 → 1,200; 85.25 → 85.2."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _signed(share: float) -> str:
    """-0.2 → −20%, 0 → 0%."""
    return f"{100 * share:+.0f}%".replace("-", "−") if round(100 * share) else "0%"


def _written_by(by: str) -> str:
    """Who wrote a side, for a reader: reference → 모범 답안, spoilt: echo → 망가뜨림 (질문 되풀이)."""
    if by == "reference":
        return "모범 답안"
    if by.startswith("spoilt: "):
        fault = by.removeprefix("spoilt: ")
        return f"망가뜨림 ({FAULTS.get(fault, fault)})"
    return "greedy (기본 디코딩)" if by == "greedy" else by


def write_html(path: str | Path, summary: Mapping[str, Any], pairs: Sequence[PreferencePair], recipe: str = "") -> None:
    """Write `render_html(…)` to `path`, through a temporary file."""
    page = render_html(summary, pairs, recipe)
    with atomic_write(path) as out:
        out.write(page)
