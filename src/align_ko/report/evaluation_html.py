"""The evaluation as one self-contained HTML file for readers of Korean: nothing in it is loaded from elsewhere.

Everything that came from data goes through Jinja's autoescape; nothing is marked safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from align_ko.evaluation.scores import GREEDY
from align_ko.records import atomic_write, last_user_text
from align_ko.report.evaluation_table import short
from align_ko.report.plots import fault_bars, length_strips, natural_bars

FAULT_NAMES: dict[str, str] = {
    "empty": "빈 답변",
    "not_korean": "한국어 아님",
    "repetition": "반복",
    "template_leak": "형식 노출",
    "echo": "질문 되풀이",
    "unfinished": "미완결",
    "strange_characters": "이상한 글자",
    "wrong_register": "높임말 아님",
    "mixed_register": "말투 혼용",
    "filler": "빈말 채우기",
    "chat_slang": "채팅체",
    "too_short": "너무 짧음",
    "too_long": "너무 긺",
    "wrong_particle": "조사 오류",
    "translationese": "번역 투",
}
GROUP_NAMES = {"instruction": "지시", "dialogue": "대화", "knowledge": "지식"}

CLIP = 340
"""Characters of an answer that are shown before "더 보기"."""
CLIP_LINES = 12
_WORTH_CLIPPING = 90  # a shorter rest is simply shown

_WHOLE_ANSWER = frozenset({"empty", "too_short", "not_korean", "wrong_register"})
"""Faults of the answer as a whole: a badge says it, underlining every word would not help."""


class Segment(NamedTuple):
    """A stretch of an answer under the same faults; `tip` is empty where there are none."""

    text: str
    tip: str


def segments(text: str, faults: Sequence[Mapping[str, Any]], start: int = 0, end: int | None = None) -> list[Segment]:
    """`text[start:end]` cut wherever a fault begins or ends, so that overlapping faults need no nested marks."""
    end = len(text) if end is None else min(end, len(text))
    local = [fault for fault in faults if fault["code"] not in _WHOLE_ANSWER]
    edges = {start, end} | {edge for f in local for edge in (f["start"], f["end"]) if start < edge < end}
    cuts = sorted(edges)
    parts = []
    for left, right in pairwise(cuts):
        over = [f["message"] for f in local if f["start"] <= left and right <= f["end"]]
        parts.append(Segment(text[left:right], " / ".join(dict.fromkeys(over))))
    return parts


def clip_at(text: str) -> int:
    """Where "더 보기" begins: after CLIP characters or CLIP_LINES lines, at a space if one is near; else at the end."""
    lines = [place for place, char in enumerate(text) if char == "\n"]
    cut = min(CLIP, lines[CLIP_LINES - 1] if len(lines) >= CLIP_LINES else CLIP)
    if len(text) - cut < _WORTH_CLIPPING:
        return len(text)
    space = max(text.rfind(" ", cut - 30, cut), text.rfind("\n", cut - 30, cut))
    return space + 1 if space > 0 else cut


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    text, faults = row["response"], row["faults"]
    cut = clip_at(text)
    return {
        "setting": row["setting"],
        "natural": row["natural"],
        "finished": row["finished"],
        "relevant": row["relevant"],
        "characters": len(text),
        "tokens": row["tokens"],
        "codes": list(dict.fromkeys(fault["code"] for fault in faults)),
        "notes": list(dict.fromkeys((fault["code"], fault["message"]) for fault in faults)),
        "shown": segments(text, faults, 0, cut),
        "rest": segments(text, faults, cut),
        "rest_characters": len(text) - cut,
    }


def cards(rows: Iterable[Mapping[str, Any]], models: Sequence[str], settings: Sequence[str]) -> list[dict[str, Any]]:
    """One card per prompt, in the order of the rows: the question, and per model its answer under each setting."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        card = found.setdefault(
            row["prompt_id"],
            {
                "group": row.get("group") or "",
                "topic": row.get("topic") or "",
                "earlier": _earlier(row["prompt"]),
                "question": last_user_text(row["prompt"]),
                "reference": row.get("reference"),
                "answers": {},
            },
        )
        card["answers"][row["model"], row["setting"]] = _answer(row)
    for card in found.values():
        answers = card.pop("answers")
        card["columns"] = [
            {"model": model, "answers": [(setting, answers.get((model, setting))) for setting in settings]} for model in models
        ]
    return list(found.values())


def _earlier(prompt: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The turns before the last question."""
    asked = max((place for place, message in enumerate(prompt) if message["role"] == "user"), default=0)
    return list(prompt[:asked])


def render_html(
    scored_rows: Iterable[Mapping[str, Any]], summary: Mapping[str, Any], about: Mapping[str, str] | None = None
) -> str:
    """The whole page. `about`: further facts for its end, e.g. {"모델 dpo": "outputs/quickstart/dpo"}."""
    rows = list(scored_rows)
    models = list(dict.fromkeys(row["model"] for row in rows))
    decodings = dict(sorted({row["setting"]: row["decoding"] for row in rows}.items(), key=lambda d: d[0] != GREEDY))
    heldout, probes = ([row for row in rows if row["kind"] == kind] for kind in ("heldout", "probe"))
    environment = Environment(
        loader=PackageLoader("align_ko.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda share: f"{100 * share:.0f}%",
        "points": lambda value: f"{value:+.0f}".replace("+0", "0").replace("-0", "0").replace("-", "−") + "%p",
        "fault": lambda code: FAULT_NAMES.get(code, code),
        "group": lambda group: GROUP_NAMES.get(group, group),
        "short": short,
    }
    all_cards = cards(heldout, models, list(decodings))
    return environment.get_template("evaluation.html.jinja").render(
        models=models,
        colour={model: f"m{place % 6}" for place, model in enumerate(models)},
        decodings=decodings,
        greedy=GREEDY,
        results=summary["results"],
        headline=[result for result in summary["results"] if result["setting"] == GREEDY],
        gaps=summary["decoding_gap"],
        small_sample=summary["small_sample"],
        natural_bars=natural_bars(summary),
        fault_bars=fault_bars(summary),
        lengths=length_strips(rows),
        probes=cards(probes, models, list(decodings)),
        cards=all_cards,
        groups=list(dict.fromkeys(card["group"] for card in all_cards if card["group"])),
        codes=[code for code in FAULT_NAMES if any(f["code"] == code for row in heldout for f in row["faults"])],
        about=about or {},
    )


def write_html(
    path: str | Path,
    scored_rows: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any],
    about: Mapping[str, str] | None = None,
) -> None:
    """Write `render_html(…)` to `path`, through a temporary file."""
    page = render_html(scored_rows, summary, about)
    with atomic_write(path) as out:
        out.write(page)
