"""Parts of a sentence that do not go together: `강아지 세 명`, `비록 돈이 많아서`, `이유는 … 생각합니다`."""

from __future__ import annotations

import re

from align_ko.korean.prose import Span

# nouns → counters that do not count them
_COUNTED = {
    "강아지 고양이 송아지 망아지 병아리 돼지 토끼 물고기 금붕어 호랑이 사자 염소 원숭이 코끼리 다람쥐": "명 분 권 대 자루",
    "오리 참새 비둘기 거북이 개구리 나비 소 말 닭 개 새 양 곰": "명 분 권 대 자루",
    "사람 학생 손님 어린이 친구 선생님 직원 관광객 승객 배우 가수 의사": "마리 권 자루 그루 켤레",
    "간호사 회원 시민 주민 동생 형제 남자 여자": "마리 권 자루 그루 켤레",
    "책 소설 소설책 잡지 사전 공책": "마리 명 대 벌 켤레 그루 자루",
    "자동차 버스 트럭 컴퓨터 자전거 비행기 냉장고": "마리 명 권 벌 켤레 그루 자루",
    "신발 구두 양말 운동화 장갑": "마리 명 권 대 그루 자루",
    "연필 볼펜 붓 나무 소나무 꽃": "마리 명 권 벌 켤레",
}
_WRONG = {noun: frozenset(counters.split()) for nouns, counters in _COUNTED.items() for noun in nouns.split()}
_NUMBERED = re.compile(
    # 한, 다섯, 일곱, 여러, 3; opens with a class, so re skips from sign to sign
    r"[한두세네열몇다여일아\d](?:(?<=[한두세네열몇\d])|(?<=[다여])섯|(?<=일)곱|(?<=여)[덟러]|(?<=아)홉)"
    r" ?(?P<counter>명|마리|권|대|자루|켤레|그루|벌|분)"
    r"(?:의 (?P<after>[가-힣]{1,5})(?![가-힣])|(?=[이가은는을를도과와 ,.]))"
)
_WORD_BEFORE = re.compile(r"(?<![가-힣])([가-힣]{1,5}) ?$")
_SUFFIX = re.compile(r"들?[이가은는도을를]?$")
_ADVERBS = (
    (
        "비록",
        re.compile(r"(?<![가-힣])비록 [^.!?\n]{2,}"),
        re.compile(r"지만|지라도|[가-힣]도[ ,]|으나|나[, ]|망정|언정|건만|불구"),
    ),
    (
        "결코",
        re.compile(r"(?<![가-힣])결코 [^.!?\n]{2,}"),
        re.compile(r"않|찮|잖|없|아[니닌닐닙님]|못|안[ 되된될됩돼]|[마말]|모[르를른릅]|금|불|무|거부|거절"),
    ),
    (
        "도저히",
        re.compile(r"(?<![가-힣])도저히 [^.!?\n]{2,}"),
        re.compile(r"않|찮|잖|없|아[니닌닐닙님]|못|안[ 되된될됩돼]|[마말]|모[르를른릅]|어[렵려]|힘|불|싫|벅차|무리"),
    ),
    (
        "왜냐하면",
        re.compile(r"(?<![가-힣])왜냐하면 [^.!?\n]{2,}[다요][.!?\n]"),
        re.compile(r"때문|니까|거든|라서|[가-힣]서(?:요|입|이)|여서|어서|아서|기에|탓|덕"),
    ),
)
_SUBJECT_SIGN = re.compile("이유는|까닭은|꿈[은는]|목표[은는]|취미[은는]|장점[은는]|단점[은는]|소원[은는]")
_SUBJECT = re.compile(
    # the reason may be plain, or be there: 이유는 분명하다고, 여러 가지가 있다고 생각합니다
    r"(?:이유는|까닭은) [^.!?\n]{2,60}(?<!있)(?<!없)(?<!많)(?<!크)(?<!작)(?<!하)(?<!같)(?<!르)(?<!이)(?:다고|자고)"
    r" (?:생각합니다|생각해요|봅니다)[.!]"
    r"|(?:제|나의|내|저의) (?:꿈|목표|취미|장점|단점|소원)[은는] "
    r"(?![^.!?\n]*(?:지만|[는인은]데|이고|이며|[이]?라서))[^.!?,\n]{1,30}"
    r"(?:고 싶습니다|고 싶어요|려고 합니다|[을를] (?:합니다|해요|봅니다|칩니다|읽습니다|듣습니다))[.!]"
)


def mismatches(text: str) -> list[Span]:
    """`강아지 세 명이 놀고 있습니다` → the noun and its counter; `text` has quotations blanked."""
    found = []
    for match in _NUMBERED.finditer(text):
        before = None if match["after"] else _WORD_BEFORE.search(text, max(0, match.start() - 8), match.start())
        word = match["after"] or (before[1] if before else "")
        nouns = (word, _SUFFIX.sub("", word))
        if any(match["counter"] in _WRONG.get(noun, ()) for noun in nouns):
            found.append(Span(before.start() if before else match.start(), match.end()))
    for word, clause, partner in _ADVERBS:
        if word in text:
            found += [Span(*match.span()) for match in clause.finditer(text) if not partner.search(match[0])]
    if _SUBJECT_SIGN.search(text):
        found += [Span(*match.span()) for match in _SUBJECT.finditer(text)]
    return sorted(found)
