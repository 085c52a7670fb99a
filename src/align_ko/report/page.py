"""What the reports share: the Jinja environment, Korean names of codes, and where a long text is folded.

In HTML everything passes through Jinja's autoescape and nothing is marked safe; Markdown templates escape with filters.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from align_ko.report.tables import code_span, escape_bars, escape_markdown, markdown_table

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
PAIR_FAULT_NAMES = FAULT_NAMES | {"irrelevant": "질문과 무관", "none": "결함 없음"}
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
GROUP_NAMES = {"instruction": "지시", "dialogue": "대화", "knowledge": "지식"}
STAGE_NAMES = {
    "read": "읽음",
    "valid": "형식",
    "length": "길이",
    "natural": "자연스러움",
    "distinct": "중복",
    "unseen": "평가 질문",
    "taken": "사용",
}
LEVEL_NAMES = {
    "polite": "높임말",
    "plain": "반말",
    "archaic": "하오체·하게체",
    "neutral": "문어체 (-다)",
    "mixed": "혼용",
    "unknown": "알 수 없음",
}
CURATION_NAMES = {
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
_NAMES = {
    "group": GROUP_NAMES,
    "fault": PAIR_FAULT_NAMES,
    "reason": REASON_NAMES,
    "stage": STAGE_NAMES,
    "level": LEVEL_NAMES,
    "named": CURATION_NAMES,
}

CLIP = 340
"""Characters of a text that are shown before "더 보기"."""
CLIP_LINES = 12
_WORTH_CLIPPING = 90  # a shorter rest is simply shown


def clip_at(text: str) -> int:
    """Where "더 보기" begins: after CLIP characters or CLIP_LINES lines, at a space if one is near; else at the end."""
    lines = [place for place, char in enumerate(text) if char == "\n"]
    cut = min(CLIP, lines[CLIP_LINES - 1] if len(lines) >= CLIP_LINES else CLIP)
    if len(text) - cut < _WORTH_CLIPPING:
        return len(text)
    space = max(text.rfind(" ", cut - 30, cut), text.rfind("\n", cut - 30, cut))
    return space + 1 if space > 0 else cut


def render(template: str, **values: object) -> str:
    """A template of this package with `values`. A name that is missing is an error."""
    return environment().get_template(template).render(**values)


def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("align_ko.report", "templates"),
        autoescape=lambda name: not (name or "").endswith(".md.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, names in _NAMES.items():
        made.filters[name] = lambda code, names=names: names.get(code, code)
    made.filters |= {"n": number, "percent": percent, "md": escape_markdown, "code": code_span, "table": markdown_table}
    made.globals["escape_bars"] = escape_bars
    return made


def number(value: float) -> str:
    """1200 → 1,200; 85.25 → 85.2."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def percent(share: float) -> str:
    """Whole percents, and a tenth where less than ten are.

    >>> percent(0.5), percent(0.034), percent(0.0), percent(0.998)
    ('50%', '3.4%', '0%', '99.8%')
    """
    return f"{100 * share:.1f}%" if 0 < share < 0.0995 or 0.9 < share < 1 else f"{100 * share:.0f}%"
