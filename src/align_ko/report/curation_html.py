"""The curation report as one self-contained HTML file for readers of Korean: nothing in it is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from align_ko.report.curation_examples import dropped_card, duplicate_card, kept_card, repair_card
from align_ko.report.curation_rows import visible
from align_ko.report.curation_tables import by_source, reason_counts, score_rows, speech_level_rows, sum_of
from align_ko.report.page import FAULT_NAMES, environment

STAGE_NAMES = {
    "read": "읽음",
    "valid": "형식",
    "length": "길이",
    "natural": "자연스러움",
    "distinct": "중복",
    "unseen": "평가 질문",
    "taken": "사용",
}
REASON_NAMES = FAULT_NAMES | {
    "broken_row": "깨진 행",
    "roles": "발화 순서",
    "empty": "빈 발화",
    "speech_level": "말투",
    "duplicate": "중복",
    "near_duplicate": "거의 같은 행",
    "evaluation_overlap": "평가 질문과 겹침",
    "personal_data": "개인정보",
    "profanity": "욕설·비속어",
    "wrong_refusal": "잘못된 거절",
    "off_topic": "질문과 딴 답변",
}
LEVEL_NAMES = {
    "polite": "높임말",
    "plain": "반말",
    "archaic": "하오체·하게체",
    "neutral": "문어체 (-다)",
    "mixed": "혼용",
    "unknown": "알 수 없음",
}
OTHER_NAMES = {
    "white_space": "공백",
    "particles": "조사",
    "nfc": "자모 결합(NFC)",
    "full_width": "전각 글자",
    "stray_markers": "앞뒤에 붙은 표시",
    "format_tokens": "형식 토큰",
    "personal_data": "개인정보 가림",
    "resident_number": "주민등록번호",
    "foreigner_number": "외국인등록번호",
    "phone": "전화번호",
    "card": "카드 번호",
    "account": "계좌 번호",
    "passport": "여권 번호",
    "driver_licence": "운전면허 번호",
    "email": "이메일",
    "question": "질문",
    "answer": "답변",
    "random": "무작위",
    "quality": "품질순",
    "quality_diverse": "품질과 다양성",
}


def render_html(facts: Mapping[str, Any]) -> str:
    """The whole page; `facts` is what report.json holds."""
    funnels, reasons = by_source(facts)
    total = sum_of(list(funnels.values()))
    near = facts.get("near_duplicates") or {}
    templates = environment()
    templates.filters |= {
        "n": lambda value: f"{value:,}" if isinstance(value, int) else f"{value:,.1f}",
        "percent": _percent,
        "stage": lambda name: STAGE_NAMES.get(name, name),
        "reason": lambda name: REASON_NAMES.get(name, name),
        "level": lambda name: LEVEL_NAMES.get(name, name),
        "named": lambda name: OTHER_NAMES.get(name, name),
    }
    return templates.get_template("curation.html.jinja").render(
        rows=facts["rows"],
        seconds=facts["seconds"],
        rows_per_second=facts["rows_per_second"],
        stages=list(total),
        funnels={visible(name): row for name, row in funnels.items()},
        total=total,
        bars=[funnel_bar("전체", total), *(funnel_bar(visible(name), row) for name, row in funnels.items())],
        reasons=_reasons(facts, reasons),
        groups=facts["mixture"]["groups"],
        widest=max((max(row["wanted"], row["available"]) for row in facts["mixture"]["groups"]), default=0) or 1,
        decision=facts["mixture"]["decision"],
        selection=facts.get("selection") or {},
        lengths=[
            (name, paired([(row["characters"], row["before"], row["after"]) for row in rows]))
            for name, rows in [("", facts["answer_characters"]), *(facts.get("answer_characters_by_group") or {}).items()]
        ],
        levels=paired(speech_level_rows(facts)),
        scores=paired(score_rows(facts)),
        repairs=facts.get("repairs") or {},
        repair_examples=[repair_card(example) for example in facts.get("repair_examples") or ()],
        masked=(facts.get("personal_data") or {}).get("masked") or {},
        near={key: count for key, count in near.items() if isinstance(count, int)},
        near_examples=[duplicate_card(pair) for pair in near.get("examples") or ()],
        kept=[kept_card(row) for row in facts["kept_examples"]],
        dropped=_dropped(facts),
        steps=facts.get("steps") or [],
        slowest=max((step["seconds"] for step in facts.get("steps") or ()), default=0) or 1,
        filters=facts["filters"],
        recipe=facts.get("recipe") or "",
    )


def funnel_bar(name: str, row: Mapping[str, int]) -> dict[str, Any]:
    """One source's rows in stretches: used, kept but not needed, and what fell at each stage.

    >>> bar = funnel_bar("a", {"read": 10, "valid": 9, "length": 9, "unseen": 9, "taken": 5})
    >>> [(part["stage"], part["count"], part["share"]) for part in bar["parts"]]
    [('taken', 5, 0.5), ('spare', 4, 0.4), ('valid', 1, 0.1)]
    """
    stages = [stage for stage in row if stage != "taken"]
    taken, last = row.get("taken", 0), row[stages[-1]]
    counts = {"taken": min(taken, last), "spare": max(last - taken, 0)}
    counts |= {here: row[before] - row[here] for before, here in pairwise(stages)}
    read = max(row["read"], 1)
    parts = [{"stage": stage, "count": count, "share": count / read} for stage, count in counts.items() if count > 0]
    return {"name": name, "read": row["read"], "left": last / read, "parts": parts}


def paired(rows: Sequence[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """Before and after as shares of their own sums, so that shapes compare; widths are relative to the longest bar.

    >>> paired([("0-9", 3, 0), ("10-49", 1, 2)])[1]["after"]
    {'count': 2, 'share': 1.0, 'width': 100.0}
    """
    sums = (sum(before for _, before, _ in rows) or 1, sum(after for _, _, after in rows) or 1)
    shares = [(before / sums[0], after / sums[1]) for _, before, after in rows]
    longest = max(map(max, shares), default=0) or 1

    def bar(count: int, share: float) -> dict[str, Any]:
        return {"count": count, "share": share, "width": round(100 * share / longest, 1)}

    return [
        {"name": name, "before": bar(before, share_before), "after": bar(after, share_after)}
        for (name, before, after), (share_before, share_after) in zip(rows, shares, strict=True)
    ]


def _reasons(facts: Mapping[str, Any], by_name: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    counts = reason_counts(facts)
    most = max(counts.values(), default=1)
    return [
        {
            "code": code,
            "count": count,
            "share": count / max(facts["rows"]["read"], 1),
            "width": round(100 * count / most, 1),
            "sources": [dropped.get(code, 0) for dropped in by_name.values()],
        }
        for code, count in counts.items()
    ]


def _dropped(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The examples, the most frequent reason first."""
    counts = reason_counts(facts)
    examples = facts["dropped_examples"]
    return [
        {"code": code, "count": counts.get(code, 0), "rows": [dropped_card(code, row) for row in examples[code]]}
        for code in sorted(examples, key=lambda code: -counts.get(code, 0))
    ]


def _percent(share: float) -> str:
    """Whole percents, and a tenth where less than ten are."""
    return f"{100 * share:.1f}%" if 0 < share < 0.0995 or 0.9 < share < 1 else f"{100 * share:.0f}%"
