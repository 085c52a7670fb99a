"""What kind of text a prompt asks for, and in which speech level it is to be written.

`반말로 대답해 줘` → plain; `해적 말투로 인사해 줘`, `슬로건을 지어 줘`, `증명해 줘` → any level; everything else → polite.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple


class Genre(NamedTuple):
    """`level`: the speech level that is expected. `mixes`: several levels may stand beside each other, as in a dialogue."""

    level: Literal["polite", "plain", "any"]
    mixes: bool


_POLITE = Genre("polite", False)
_MAKE = r"(?:써|쓰|작성|지어|짓|만들|만드|적어|적으|들려|보여|보내|요약|정리|표현|묘사|해 ?[줘주봐라]|하시오|하라|하세요|부탁|생성|완성|창작|뽑아|골라|제안)"
_TELL = rf"(?:{_MAKE}|알려|추천|소개|말해|외쳐|정해|붙여|하나|없을까|있을까|있나요|있을까요|좀|뭐가 좋|어떤 게 좋)"
_ANSWERING = r"(?:로|체로|투로|으로)(?:만)? ?(?:대답|답|말|설명|얘기|이야기|알려|위로|소개|해|써|부탁|물어|응원|추천|격려|칭찬)"
_CHANGED = re.compile(  # a text that is turned into another level, translated or put right
    r"(?:바꿔|바꾸|고쳐|고치|수정|변환|옮겨|번역|교정)[가-힣]{0,4}|다듬어|(?:차이|구분|구별|뜻|의미)[가-힣]{0,3} ?(?:뭐|무엇|알려|설명)"
)
_PLAIN = re.compile(
    rf"반말{_ANSWERING}|반말(?:을|로)? ?(?:써|사용|해|부탁|가능)|말 ?(?:놓아|놔|놓고|편하게)|편하게 (?:말|반말|대답|얘기)"
    r"|(?:존댓말|존대|높임말|경어)(?:은|는|을|를)? ?(?:쓰지|하지|빼|말고|없이|사용하지|금지|그만)"
    r"|(?:친구|동생|절친|베프)(?:한테|에게)? ?(?:처럼|같이|하듯이?)(?! 보)"
)
_NOT_PLAIN = re.compile(r"반말(?:은|을|로)? ?(?:쓰지|하지|말고|빼|금지|대신|그만|사용하지)|(?:존댓말|높임말|경어|합쇼체|해요체)(?:로|를|을|만) ?(?!쓰지|하지|빼|말)")
_SPOKEN = (  # said by somebody else than the assistant to its reader
    r"소설|이야기|동화|우화|전래|설화|신화|민담|대본|시나리오|각본|대화|대사|독백|상황극|콩트|만담|유머|농담|개그|드립|연극|희곡|가사|노래|랩|동요|자장가"
    r"|시조|하이쿠|삼행시|사행시|[이삼사오]행시|N행시|축시|(?<![가-힣])시(?=[를로한의 ])|편지|쪽지|문자|카톡|톡|메시지|댓글|답글|트윗|트위터|인스타|SNS|캡션"
    r"|일기|방명록|롤링페이퍼|고백|응원|건배사|주문|구호|챈트|속삭임|혼잣말|줄거리|시놉시스|장면|첫 문장|도입부|전개|결말|역할극"
)
_WRITTEN = (  # addressed to nobody: written -다 or nouns
    r"보고서|논문|초록|기사|사설|칼럼|헤드라인|에세이|수필|독후감|감상문|서평|리뷰|설명문|논설문|글|문단|문장|예문|본문|연설|선언문|회의록|의사록|메모|노트|개요|요약|일지"
    r"|이력서|자기소개서|자소서|경력|약관|계약서|조항|공고|안내문|공지|포스터|전단|팸플릿|광고|카피|슬로건|표어|캐치프레이즈|문구|글귀|제목|부제|목차|이름|별명|닉네임|상호"
    r"|좌우명|가훈|급훈|명언|격언|속담|사자성어|명대사|인용|해시태그|태그라인|로고|자막|퀴즈|수수께끼|넌센스|문제|문항|선택지|보기|시험지|질문지|설문|풍경|묘사|상세 ?페이지|상품 ?설명|제품 ?설명"
    r"|백과|사전|정의|증명|JSON|json|CSV|csv|YAML|XML|HTML|표(?=[로를])|코드|주석|커밋|쿼리|SQL"
)
_FREE = re.compile(
    rf"(?:{_SPOKEN})[^.?!\n]{{0,60}}{_TELL}|(?:{_SPOKEN})\W*$|(?:처럼|말투로?|어투로?|톤으로|사투리로?|버전으로|역할을?|인 척|빙의|되어|돼서|되었다고|라고 (?:생각|가정|상상)하고|입장에서)"
    r"|(?:너는|넌|당신은|네가|지금부터) [^.?!\n]{1,40}(?:이야|야|이다|다|입니다|이에요|예요|해라|맡아)(?:[.!, ]|$)|연기해|흉내|성대모사|일인칭|1인칭|인터뷰 형식"
)
_PROSE = re.compile(
    rf"(?:{_WRITTEN})[^.?!\n]{{0,40}}{_MAKE}|(?:명언|격언|속담|좌우명|가훈|제목|이름|별명|닉네임|슬로건|표어|문구|글귀|수수께끼|퀴즈|넌센스|문제)[^.?!\n]{{0,20}}{_TELL}"
    r"|증명(?:해|하|을)|묘사해|서술하|서술해|[한하이해]라?다체|평서체|~?[함음]체|개조식|문어체|반말체|음슴체|요약|번역|회의록|발음 연습|문체|높임|발췌|속기"
    r"|(?:제목|표어|슬로건|구호|카피|문구|헤드라인)\W*$|(?:문제|퀴즈)(?:를|을)? ?(?:하나|두|세|\d|내|출제|만들)"
)
_SHORT = re.compile(  # every line stands alone, the one a question, the next a promise
    rf"(?:제목|이름|슬로건|표어|구호|캐치프레이즈|문구|글귀|카피|명언|격언|속담|좌우명|예문|퀴즈|수수께끼)[^.?!\n]{{0,30}}{_TELL}"
    r"|(?:제목|표어|슬로건|구호|카피|문구)\W*$"
)
_WRITING = re.compile(r"(?:바꿔|바꾸어|고쳐|수정해) ?(?:줘|주|봐|보|라|쓰|써|적)|바꾸시오|고치시오|문장을|이어 ?(?:써|쓰|서)|빈칸|완성")


@lru_cache(maxsize=4096)
def asked_for(prompt: str) -> Genre:
    """Cached: the candidates of one prompt come one after another."""
    changed = _CHANGED.search(prompt)
    if not changed and _NOT_PLAIN.search(prompt):
        return _POLITE if not _FREE.search(prompt) else Genre("any", True)
    if _PLAIN.search(prompt):
        return Genre("any" if changed else "plain", False)
    if _FREE.search(prompt):
        return Genre("any", True)
    if _SHORT.search(prompt):
        return Genre("any", True)
    if changed or "반말" in prompt or _PROSE.search(prompt) or _WRITING.search(prompt):
        return Genre("any", False)
    return _POLITE
