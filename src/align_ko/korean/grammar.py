"""Parts of a sentence that do not go together: `강아지 세 명`, `비록 돈이 많아서`, `이유는 … 생각합니다`.

And whom the honorifics honour: not coffee (`커피 나오셨습니다`), not the speaker (`제가 가십니다`), and 저 is not 나.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from align_ko.korean.prose import Sentence, Span

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


_THING = (
    "커피|음료|케이크|음식|식사|메뉴|제품|상품|물건|택배|영수증|쿠폰|포인트|적립|할인|환불|교환|반품|결제"
    "|배송|주문|사용|적용|주차|포장|가격|금액|요금|비용|사이즈"
    "|색상|재고|자리|좌석|객실|방|화장실|주차장|매장|엘리베이터|출구|버스|기차|비행기|카드|서비스|예약"
    "|접수|이용|반납"
)
_SERVED = "라떼|라테|카푸치노|아메리카노|에스프레소|빙수|버거|세트|스무디|에이드|주스|샌드위치|피자|치킨|정식|덮밥|국수"
_PATIENT = r"(?:이|가|은|는|도)? ?(?:지금 |곧 |다 |안 |바로 |모두 |이미 |방금 ){0,2}"
_COMES = "나오셨|나오십|나오시|되셨습|되십니다|되세요(?!\\?)|되시고|되시며|도착하셨|준비되셨|완료되셨|매진되셨|품절되셨"
_SOLD = "원|품절|매진|무료|유료|공짜|만석|신상|신상품|한정판|할인가|정가|상품|제품"
_IS = "십니다|세요|시고요?|시며|시네요|신데요"
_HAS = "있으십니다|있으세요(?!\\?)|없으십니다|없으세요(?!\\?)"
_STAYS = "계시면|계시겠|계신가|계실까|계십니|계셨|계세요"
_OBJECT = re.compile(
    rf"(?<![가-힣])(?:주문하신 )?(?:[가-힣]{{1,8}} )?(?:{_THING}|[가-힣]{{0,6}}(?:{_SERVED})){_PATIENT}"
    rf"(?:{_COMES})"
    r"|(?:[\d만천백십억] ?원|품절|매진|무료|유료|공짜|만석|신상품?|한정판|할인가|정가"
    rf"|마지막 (?:상품|제품))(?:이)?(?:{_IS})"
    r"|(?<![가-힣])(?:화장실|주차장|매장|엘리베이터|출구|재고|제품|상품|계산대|좌석|자리|사이즈|색상)(?:은|는"
    rf"|이|가|도) [^.!?\n]{{0,12}}(?:{_HAS})"
    r"|(?<![가-힣])(?:말씀|질문|문의|의견|약속|시간|일정|용건|관심|고민|불만|궁금한 점|문제|부탁)(?:이|가|은"
    rf"|는|도)? ?(?:{_STAYS})"
    r"|(?<![가-힣])저희 나라"
)
# One of these is in every _OBJECT; each opens with a letter, so re skips from letter to letter.
_OBJECT_SIGN = re.compile("|".join([_COMES, *(f"{sold}이?(?:{_IS})" for sold in _SOLD.split("|")), _HAS, _STAYS, "저희 나라"]))
_LOWERED = re.compile(
    r"(?:저|제|나|우리|저희)(?:한테|에게|게)(?: [가-힣]+){0,2} 여쭤 ?보(?:시|세|십|신)|(?P<free>(?:언제든지?"
    r"|편하게|자유롭게|저희 직원)[가-힣]* ?여쭤 ?보(?:시|세|십))"
)
_OF_OTHERS = (
    "하십니다|하셨습니다|가십니다|가셨습니다|오셨습니다|드십니다|드셨습니다|사십니다|계십니다|보셨습니다|생각하십니다"
    r"|좋아하십니다|좋아하세요\.|주무십니다|주무셨습니다|말씀하십니다|말씀하셨습니다"
)
_SELF = re.compile(
    r"(?:^|[.!?\n] ?)(?:저는|제가|저도) (?:(?![가-힣]*(?:께서|님|[이가은는면자때서고도만])[ ])[가-힣]+ ){0,2}"
    rf"(?:{_OF_OTHERS})"
)
_SELF_SIGN = re.compile(_OF_OTHERS)
_HUMBLE = re.compile(r"(?<![가-힣])(?:저는|제가|저도|저를|저에게|저의|저희는|저희가)(?![가-힣])")
_PLAIN_I = re.compile(r"\s*(?:(?:그래서|그리고|그런데|하지만|또|물론|오늘|어제|지금)?,? ?)?(?:나는|내가|나도|나를|나에게|난)\s")
_PLAIN_SIGN = re.compile("나[는도를]|나에게|내가|난 ")
_SPOKEN = re.compile(r"(?:니다|요)[.!~]*\s*$")
_ASKS = re.compile(r"(?:세요|십시오|까요|나요|가요|습니까|보죠)[.!?~]*\s*$")


def misplaced_honorifics(masked: str, parts: Sequence[Sentence]) -> list[Span]:
    """`커피 나오셨습니다` → the span of it; `나는 학생입니다. 저는 …` → the sentence with 나."""
    found: list[Span] = []
    if _OBJECT_SIGN.search(masked):
        found += [Span(*match.span()) for match in _OBJECT.finditer(masked)]
    if _SELF_SIGN.search(masked):
        found += [Span(match.end() - 8, match.end()) for match in _SELF.finditer(masked)]
    if "여쭤" in masked:
        found += [  # 선생님께 언제든지 여쭤보세요
            Span(*match.span())
            for match in _LOWERED.finditer(masked)
            if not (match["free"] and re.search(r"께[ ,]", masked[max(0, match.start() - 20) : match.start()]))
        ]
    if _PLAIN_SIGN.search(masked) and _HUMBLE.search(masked):
        found += [
            Span(part.start, part.end)
            for part in parts
            if part.kind == "prose" and _PLAIN_I.match(part.text) and _SPOKEN.search(part.text) and not _ASKS.search(part.text)
        ][:3]
    return found
