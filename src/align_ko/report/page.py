"""What the reports share: the Jinja environment, its filters, and Korean names of codes.

In HTML everything passes through Jinja's autoescape and nothing is marked safe; Markdown templates escape with filters.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from align_ko.report.tables import code_span, escape_bars, escape_markdown, markdown_table, short

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
ORIGIN_NAMES = {"repair": "교정", "contrast": "대조", "synthetic": "합성"}
_DROPPED_PAIR_NAMES = {
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
    "origin": ORIGIN_NAMES,
    "fault": PAIR_FAULT_NAMES,
    "reason": REASON_NAMES,
    "stage": STAGE_NAMES,
    "level": LEVEL_NAMES,
    "named": CURATION_NAMES,
}


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
    made.filters |= {
        "n": number,
        "percent": percent,
        "whole": whole_percent,
        "points": points,
        "short": short,
        "signed": signed,
    }
    made.filters |= {"by": written_by, "dropped_pair": dropped_pair, "short": short}
    made.filters |= {"md": escape_markdown, "code": code_span, "table": markdown_table, "bars": escape_bars}
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


def whole_percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def points(value: float) -> str:
    """-0.2 → 0%p, 3.4 → +3%p, -3.4 → −3%p."""
    return f"{value:+.0f}".replace("+0", "0").replace("-0", "0").replace("-", "−") + "%p"


def signed(share: float) -> str:
    """-0.2 → −20%, 0 → 0%."""
    return f"{100 * share:+.0f}%".replace("-", "−") if round(100 * share) else "0%"


def written_by(by: str) -> str:
    """Who wrote a side of a pair: reference → 모범 답안, spoilt: echo → 망가뜨림 (질문 되풀이)."""
    if by == "reference":
        return "모범 답안"
    if by.startswith("spoilt: "):
        fault = by.removeprefix("spoilt: ")
        return f"망가뜨림 ({PAIR_FAULT_NAMES.get(fault, fault)})"
    return "greedy (기본 디코딩)" if by == "greedy" else by


def dropped_pair(reason: str) -> str:
    """Why a pair was dropped, in Korean.

    >>> dropped_pair("share of filler is full")
    '빈말 채우기의 몫이 다 참'
    """
    if reason in _DROPPED_PAIR_NAMES:
        return _DROPPED_PAIR_NAMES[reason]
    words = reason.split()
    if reason.startswith("share of "):
        return f"{PAIR_FAULT_NAMES.get(words[2], words[2])}의 몫이 다 참"
    if reason.startswith("synthetic: assess finds no "):
        return f"망가뜨렸으나 뜻한 결함({PAIR_FAULT_NAMES.get(words[4], words[4])})이 나타나지 않음"
    return reason
