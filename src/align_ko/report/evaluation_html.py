"""The evaluation as one self-contained HTML file for readers of Korean: nothing in it is loaded from elsewhere.

Everything that came from data goes through Jinja's autoescape; nothing is marked safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from align_ko.evaluation.scores import GREEDY
from align_ko.records import atomic_write, last_user_text
from align_ko.report.evaluation_table import short
from align_ko.report.page import FAULT_NAMES, clip_at, environment
from align_ko.report.plots import fault_bars, length_strips, natural_bars

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
    templates = environment()
    templates.filters |= {
        "percent": lambda share: f"{100 * share:.0f}%",
        "points": lambda value: f"{value:+.0f}".replace("+0", "0").replace("-0", "0").replace("-", "−") + "%p",
        "short": short,
    }
    all_cards = cards(heldout, models, list(decodings))
    return templates.get_template("evaluation.html.jinja").render(
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
