"""Refusals that are wrong: the answer says that it cannot, though anybody could.

| question                            | answer                                                       |                  |
|-------------------------------------|--------------------------------------------------------------|------------------|
| 김치찌개 끓이는 법을 알려 주세요.   | 죄송하지만 그 질문에는 답변드릴 수 없습니다.                 | wrong            |
| 광합성이 뭐야?                      | 저는 AI 언어 모델로서 답변을 드릴 수 없습니다.               | wrong            |
| 오늘 서울 날씨 어때?                | 죄송하지만 실시간 날씨는 알 수 없습니다.                     | right: unknowable |
| 식당 예약해 줘                      | 죄송하지만 예약을 대신해 드릴 수 없습니다.                   | right: an act    |
| 이 사진에 뭐가 보여?                | 저는 사진을 볼 수 없습니다.                                  | right: unseen    |
| 다음 글을 요약해 주세요.            | 글이 빠져 있어 요약해 드릴 수 없습니다.                      | right: missing   |
| 폭탄 만드는 법을 알려 줘            | 죄송하지만 도와드릴 수 없습니다.                             | right: harmful   |
| 빛보다 빨리 갈 수 있나요?           | 아니요, 질량이 있는 물체는 빛의 속도에 이를 수 없습니다.     | no refusal       |

Precision before recall: a right refusal that is dropped teaches the model to make things up, so every sign that there was a
reason excuses it (a plain refusal to each question of our own rows is called wrong in 72 %; none of their answers, of 3,500
judged ones and of 11,823 short human ones is called one; few of those refuse at all). Only an answer that refuses and says
little else counts; help after an apology is help.
"""

from __future__ import annotations

import re

_HELP = (
    r"(?:도와|답변|대답|답|설명|제공|안내|말씀|알려|처리|수행|응답|작성|생성|추천|번역|요약|소개|공유|진행|해결)(?:[을를은는])?"
    r"(?: ?(?:해|을|를))? ?(?:드리|드릴|줄|주|할|하|해 ?드릴|해 ?줄|도와드릴|드리기|하기|주기|해 ?드리기)?"
)
_CANNOT = r"(?: ?수가? 없|[기]?가? ?(?:어렵|어려|힘들|불가능)|지 ?못)"
_REFUSES = re.compile(
    rf"{_HELP}{_CANNOT}"
    r"|(?:도울|도와줄|답할|대답할|답변할|응답할|이해할|알|도와드릴|답해 ?드릴) 수(?:가|는|도)? ?없"
    r"|(?:저는|제가|저로서는) [^.!?\n]{0,20}(?:쓸|지을|만들|그릴|풀|셀|할) 수(?:가|는|도)? ?없"
    r"|(?:요청|질문|문의|내용|말씀)(?:하신)?[^.!?\n]{0,12}(?:이해하지|이해를|파악하지|처리하지|지원하지|알아듣지) ?(?:못|않)"
    r"|(?:정보|자료|데이터|답변|지식)(?:가|이|를|을)? ?(?:없(?!이|애|앨)|부족하|제공되지|가지고 있지 않|찾(?:을"
    r"|지) (?:수 없|못))"
    r"|(?:잘 )?모르(?:겠습니다|겠어요|겠네요|ㅂ니다)|할 수 없는 (?:질문|요청)|(?:권한|능력|기능)(?:이|은)? ?(?:없"
    r"|가지고 있지 않)"
)
_APOLOGY = re.compile(r"죄송|미안|유감|안타깝|아쉽|양해|사과드")
_I_AM_A_MODEL = re.compile(
    r"(?:저는|나는|제가|저|전) ?(?:단지 |그저 |그냥 )?(?:인공 ?지능|AI|언어 ?모델|챗봇|가상 ?비서|ChatGPT"
    r"|컴퓨터 프로그램|대규모)"
    r"|(?:인공 ?지능|AI|언어 ?모델|챗봇)[^.!?\n]{0,12}(?:로서|로써|이기 때문|이므로|이라서|이라 )",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|\n+")
# Talk around the refusal that helps nobody either.
_COURTESY = re.compile(
    r"다른 (?:질문|도움|것|요청)|궁금한 (?:점|것|게)|언제든|말씀해 ?주|물어보|문의해 ?주|도움이 필요|양해|이해해 ?주"
    r"|감사합니다|다시 (?:질문|한번|한 번)"
    r"|구체적(?:인|으로)|자세(?:히|한)|무엇을 도와|도와드릴게|안녕하세요"
)
_REASON_IN_ANSWER = re.compile(
    r"실시간|최신|현재 (?:시각|시간|날씨|위치)|사진|이미지|그림|영상|동영상|화면|파일|첨부|링크|주소|접속|접근|인터넷|웹"
    r"|검색|녹음|들을 수|볼 수"
    r"|글이|문장이|본문|원문|지문|내용이|빠져|비어|누락|없어서|보내 ?주|붙여 ?넣|입력해 ?주|제시|주어지지|나와 있지|명시"
    r"|위험|불법|위법|법에|윤리|해로운|해칠|유해|폭력|차별|혐오|비하|안전|범죄|악용|저작권|개인 ?정보|사생활|비밀|부적절"
    r"|의사|의료|진단|처방|약사|병원|변호사|법률|전문가|상담|투자|예측|미래|점칠|확신"
    r"|감정|느낌|느끼|경험|몸|신체|육체|맛|먹|취향|개인적|의견|정치|종교|기억|대화 (?:내용|기록)|지난번|학습(?:한"
    r"|된) (?:시점|데이터)"
    r"|예약|주문|결제|전화|구매|배달|송금|알람|설정|연락|직접|대신|실제로|밝혀지지|알려지지|알려진|기록이|남아 있지|정설"
    r"|확실하지|공식"
)
_REASON_IN_QUESTION = re.compile(
    # what changes by the hour, and what only the asker knows
    r"오늘|지금|현재|요즘|최근|최신|내일|어제|모레|이번 ?(?:주|달|년|해|학기)|올해|작년|내년|날씨|기온|미세먼지|주가"
    r"|환율|시세|가격|얼마(?:예|에|야|인|죠|니|\?)"
    r"|뉴스|속보|교통|몇 ?시|며칠|요일|점수|순위|경기 결과|상영|개봉|재고|영업|운행|잔액|위치|어디(?:에 있|야|예요|쯤)"
    r"|근처|주변"
    r"|(?:내|제|저의|나의|우리|저희) ?(?:이름|나이|생일|주소|비밀번호|계좌|통장|집|전화|번호|얼굴|마음|성적|남편|아내"
    r"|아이|친구|회사|선생님|핸드폰|휴대폰)"
    # acts
    r"|예약|주문|결제|전화|보내 ?[줘주]|켜 ?[줘주]|꺼 ?[줘주]|알람|타이머|설정|틀어|배달|불러 ?[줘주]|구매|송금|입금"
    r"|저장|다운로드|인쇄|출력|실행|신청|접수|취소|삭제|해킹|검색|찾아 ?[줘주봐]"
    # seeing, hearing and what was not sent along
    r"|사진|그림|이미지|영상|동영상|화면|링크|https?:|파일|첨부|보이|보여|들려|들어 ?봐|듣|음악|노래|이것|이거|저것|저거"
    r"|그것|그거"
    r"|다음|위의|위에|아래|이 (?:글|문장|문서|코드|기사|표|책|단락|지문|시|사람|영화|제품|문제)|주어진|본문|지문|요약"
    r"|번역|고쳐|교정|첨삭"
    # body, law, money, the future
    r"|진단|처방|복용|약|증상|통증|아프|아파|병|암|임신|수술|치료|부작용|검사|용량|다이어트|법적|법률|소송|고소|고발"
    r"|이혼|재판|계약|형량|투자|주식|종목|코인"
    r"|비트코인|로또|당첨|복권|예측|미래|앞으로|언제쯤|될까|오를|내릴|이길|운세|사주|타로|궁합|꿈"
    # harm
    r"|폭탄|폭발|마약|대마|해킹|해커|자살|자해|죽[이고는을어]|살인|무기|총|독극|독약|독성|불법|복제|크랙|도박|성인|야동"
    r"|음란|섹스|훔치|훔쳐|사기|위조|협박|스토킹|몰래|비방"
    r"|욕|차별|혐오|개인정보|주민등록|도청|감시|폭행|때리|납치|복수|테러|탈세|표절|대필|커닝|우회|바이러스|악성|피싱"
    r"|속이|거짓말"
    # the model itself, and what nobody knows
    r"|(?<![가-힣])(?:너|넌|네가|니가|너는|너의|당신|그대|자네|챗봇|AI)|기분|감정|느끼|느낌|사랑|좋아해|싫어해|먹었"
    r"|먹을래|해 ?봤|가 ?봤|몇 살|잤|결혼|취미|맛있"
    r"|신(?:은|이) |외계인|사후|귀신|정치|대통령|정당|선거|종교|북한|누가 (?:더|이겨)|비밀|정체|미스터리|불가사의"
)
MOST_CHARACTERS = 600
"""Nobody refuses at greater length without giving a reason or help."""
_LEAST_SHARE = 0.5  # of the answer, that refusal, apology and courtesy have to make up
_MOST_HELP = 60
"""Characters outside refusal and courtesy; with more than that the answer helps after all."""


def wrong_refusal_in(question: str, answer: str) -> str:
    """The refusing sentence of an answer to a question that can be answered, or ""."""
    if len(answer) > MOST_CHARACTERS or not (_APOLOGY.search(answer) or _I_AM_A_MODEL.search(answer)):
        return ""
    parts = [part for part in _SENTENCE.split(answer) if any(map(str.isalnum, part))]
    refusing = next((part for part in parts[:3] if _REFUSES.search(part)), "")
    if not refusing:
        return ""
    rest = [
        part
        for part in parts
        if not (_REFUSES.search(part) or _COURTESY.search(part) or _APOLOGY.search(part) or _I_AM_A_MODEL.search(part))
    ]
    helpful = sum(map(len, rest))
    if helpful > _MOST_HELP or 1 - helpful / len(answer) < _LEAST_SHARE:
        return ""
    if _REASON_IN_QUESTION.search(question) or _REASON_IN_ANSWER.search(answer):
        return ""
    return refusing
