"""What the HTML reports share: the Jinja environment, the Korean names of codes, and where a long text is folded.

Everything that came from data goes through Jinja's autoescape; nothing is marked safe.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

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


def clip_at(text: str) -> int:
    """Where "더 보기" begins: after CLIP characters or CLIP_LINES lines, at a space if one is near; else at the end."""
    lines = [place for place, char in enumerate(text) if char == "\n"]
    cut = min(CLIP, lines[CLIP_LINES - 1] if len(lines) >= CLIP_LINES else CLIP)
    if len(text) - cut < _WORTH_CLIPPING:
        return len(text)
    space = max(text.rfind(" ", cut - 30, cut), text.rfind("\n", cut - 30, cut))
    return space + 1 if space > 0 else cut


def environment() -> Environment:
    """Templates of this package: everything escaped, a name that is missing is an error."""
    made = Environment(
        loader=PackageLoader("align_ko.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["group"] = lambda group: GROUP_NAMES.get(group, group)
    made.filters["fault"] = lambda code: FAULT_NAMES.get(code, code)
    return made
