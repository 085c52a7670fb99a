"""Whom the honorifics honour: not coffee (`커피 나오셨습니다`), not the speaker (`제가 가십니다`), and 저 is not 나."""

from __future__ import annotations

import re
from collections.abc import Sequence

from align_ko.korean.prose import Sentence, Span

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
