"""Characters that do not belong into a Korean answer."""

from __future__ import annotations

import re
from typing import NamedTuple


class Strange(NamedTuple):
    start: int
    end: int
    kind: str  # han | kana | script | broken | invisible | jamo | halfwidth | decomposed


# Written as escapes: most of these cannot be seen in an editor.
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_KANA = r"\u3041-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
# Cyrillic, Armenian, Hebrew, Arabic, Syriac, Indic scripts, Thai, Lao, Tibetan, Burmese, Georgian, Ethiopic, Khmer
_SCRIPT = r"\u0400-\u05ff\u0600-\u07ff\u0900-\u10ff\u1200-\u139f\u1780-\u17ff"
_BROKEN = r"\ufffd\ue000-\uf8ff\ufff9-\ufffc\U000f0000-\U0010fffd"
# The zero-width joiner and variation selectors stay: emoji are built with them.
_INVISIBLE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200c\u200e\u200f\u2060\u00ad\u202a-\u202e\ufeff"
_JAMO = r"\u3131-\u318e"
_DECOMPOSED = r"\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff"
_HALFWIDTH = r"\uffa0-\uffdc"
_ALL = re.compile(
    rf"(?P<han>[{_HAN}]+)|(?P<kana>[{_KANA}]+)|(?P<script>[{_SCRIPT}]+)"
    # UTF-8 read as Latin-1: 안 becomes ì\x95\x88
    rf"|(?P<broken>[{_BROKEN}]+|(?:[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u0192\u2013-\u2122]{{1,3}}){{2,}}"
    rf"|<0x[0-9A-F]{{2}}>)"
    rf"|(?P<invisible>[{_INVISIBLE}]+)|(?P<decomposed>[{_DECOMPOSED}]+)|(?P<halfwidth>[{_HALFWIDTH}]+)"
    rf"|(?P<jamo>(?<=[가-힣])[{_JAMO}](?=[가-힣])|[ㄱ-ㅎ][ㅏ-ㅣ][ㄱ-ㅣ]*)"
)
_FAST = re.compile(
    rf"[{_HAN}{_KANA}{_SCRIPT}{_BROKEN}{_INVISIBLE}{_DECOMPOSED}{_HALFWIDTH}{_JAMO}\u00c2-\u00f4]"
    r"(?:(?<![\u00c2-\u00f4])|(?=[\u0080-\u00bf\u0152-\u0192\u2013-\u2122]))"  # 3 × 4 is fine
)
_EXCUSE = {
    "han": re.compile(rf"[{_HAN}]|한자|중국어|일본어|사자성어|고사성어|한문|번역|어원|간체|번체"),
    "kana": re.compile(rf"[{_KANA}]|일본어|번역|히라가나|가타카나|일어"),
    "script": re.compile(rf"[{_SCRIPT}]|외국어|번역|알파벳|글자|언어|(?:나라|세계|각국|외국).{{0,10}}인사"),
    "jamo": re.compile(r"[ㄱ-ㅎㅏ-ㅣ]|자음|모음|초성|자모|한글|맞춤법|문법|발음|받침|초성"),
}
_SYLLABLE_IN_PARTS = re.compile(r"[\u1100-\u115f][\u1160-\u11a7]")
_SCRIPT_OF = (  # who writes it: a question about the Russian language may well be answered with a Russian word
    ("[\u0400-\u052f]", "러시아|우크라이나|불가리아|세르비아|몽골|카자흐|키릴|키르기스"),
    ("[\u0600-\u07ff]", "아랍|이란|페르시아|우르두|이슬람|코란|쿠란|이집트|사우디"),
    ("[\u0590-\u05ff]", "히브리|유대|이스라엘|성경|구약"),
    ("[\u0900-\u0dff]", "인도|힌디|산스크리트|범어|네팔|타밀|불교|스리랑카"),
    ("[\u0e00-\u0fff]", "태국|타이|라오스|티베트"),
    ("[\u1000-\u17ff]", "미얀마|버마|조지아|캄보디아|크메르|에티오피아"),
)
_SPEAKS = r"(?:어|말|글|.{0,8}(?:문자|인사|이름|단어|낱말|표현|발음|뭐라고))"
_SCRIPTS = tuple((re.compile(one), re.compile(f"(?:{who}){_SPEAKS}")) for one, who in _SCRIPT_OF)
_OPEN = "(（[「『〈《"
_CLOSE = ")）]」』〉》"
_HANGUL = re.compile(r"[가-힣]")


def _in_parentheses(text: str, start: int) -> bool:
    line = text[max(text.rfind("\n", 0, start) + 1, start - 80) : start]
    return sum(line.count(c) for c in _OPEN) > sum(line.count(c) for c in _CLOSE)


def _inside_word(text: str, match: re.Match[str]) -> bool:
    """`(기능과纯净한 물)`: grown into a Korean word it is no gloss."""
    around = text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
    return bool(_HANGUL.search(around))


def strange_characters(text: str, prompt: str | None = None) -> list[Strange]:
    """`이 기능은 纯净한 물을` → the span of 纯净; `한강(漢江)은` → nothing, a gloss in parentheses is usual."""
    if not _FAST.search(text) and "<0x" not in text:
        return []
    found = []
    for match in _ALL.finditer(text):
        kind = match.lastgroup or ""
        excuse = _EXCUSE.get(kind)
        if prompt and excuse and excuse.search(prompt):
            continue
        if prompt and kind == "decomposed" and _EXCUSE["jamo"].search(prompt) and not _SYLLABLE_IN_PARTS.search(match[0]):
            continue  # letters talked about, typed as conjoining jamo: they look like ㄱ and ㄴ
        if prompt and kind == "script" and any(one.search(match[0]) and who.search(prompt) for one, who in _SCRIPTS):
            continue
        if kind in ("han", "kana", "script") and _in_parentheses(text, match.start()) and not _inside_word(text, match):
            continue
        found.append(Strange(match.start(), match.end(), kind))
    return found
