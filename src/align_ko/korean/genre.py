"""What kind of text a prompt asks for, and in which speech level it is to be written; and texts that the judge is not made for.

`반말로 대답해 줘` → plain; `해적 말투로 인사해 줘`, `슬로건을 지어 줘`, `증명해 줘` → any level; everything else → polite.
SHORT, VERSE and their like find prompts that ask for what would else be a fault.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import Literal, NamedTuple

from align_ko.korean.prose import without_code

SLANG = re.compile(r"신조어|줄임말|유행어|은어|채팅|초성|요즘 말|인터넷 용어")
ONE_WORD = re.compile(  # 한 단어로 답해 줘, '예'나 '아니요'로만, O나 X로만: such an answer has no speech level
    r"한 ?(?:단어|낱말)로|하나로만|(?:['’\"”]|\b[OX])(?:이?라고|으?로)만|(?:그 ?말|단어|낱말|기호)만 "
)
SHORT = re.compile(
    rf"{ONE_WORD.pattern}|한 ?단어|짧게|숫자|답만|정답|고르|선택|몇 |맞으면|구하|값[은을]|계산|(?:네|예)[,/ ]*아니|얼마"
    r"|\d ?[-+*/x×÷=] ?\d|O/X|OX|번호"
)
REPETITION = re.compile(
    r"반복해|되풀이해|번씩? (?:써|쓰|말|출력|적|따라|반복)|구구단[^?\n]{0,12}(?:써|쓰|알려|보여|출력|적|말해|만들|외워 ?[줘봐])"
    r"|구구단\W*$"
)
LISTED = re.compile("나열|목록|표로")
VERSE = re.compile(
    r"후렴|노래|가사|동요|(?<![가-힣0-9])시[를 ]|\d ?연|같은 형식|형식으로|행시|자장가|랩을"
    r"|표로|(?:바꿔|바꾸어|고쳐|수정해) ?(?:줘|주|봐|보|라|쓰|써|적)|바꾸시오|고치시오|문장을|예문|목록으로|나열|주문을 외|구호"
)
REWRITES = re.compile(r"(?:바꿔|바꾸어|고쳐|수정해) ?(?:줘|주|봐|보|라|쓰|써|적)|바꾸시오|고치시오|문장(?:을|으로)")


class Genre(NamedTuple):
    """`level`: the speech level that is expected. `mixes`: several levels may stand beside each other, as in a dialogue."""

    level: Literal["polite", "plain", "any"]
    mixes: bool


_POLITE = Genre("polite", False)
_MAKE = (
    r"(?:써|쓰|작성|지어|짓|만들|만드|적어|적으|들려|보여|보낼|보내 ?[줘주]|요약|정리|묘사|해 ?[줘주봐라]|하시오|하라|하세요"
    r"|부탁|생성|완성|창작|뽑아|골라)"
)
_TELL = rf"(?:{_MAKE}|알려|추천|소개|말해|외쳐|정해|붙여|하나|없을까|있을까|있나요|좀|뭐가 좋|어떤 게 좋)"
_ANSWERING = r"(?:로|체로|투로)(?:만)? ?(?:대답|답|말|설명|얘기|이야기|알려|위로|소개|해|써|부탁|물어|적어|응원|추천|격려|칭찬)"
_HOW_TO = re.compile(
    r"(?:쓰는|짓는|만드는|보내는|작성하는|적는|고르는|정하는|요약하는|증명하는) ?(?:법|방법|요령|팁|이유|순서|과정|단계)"
    r"|(?:방법|팁|요령|이유|차이점?|특징|효과|역사|장점|단점|뜻|의미)(?:이|을|를|은|는|과|도|에 대해)?"
    r" ?(?:알려|설명|뭐|무엇|있|소개|추천)"
)
_CHANGED = re.compile(  # a text that is turned into another level, translated or put right
    r"(?<!어떻게 )(?:바꿔|바꾸|고쳐|고치|수정|변환|옮겨|번역|교정)[가-힣]{0,4}|다듬어"
)
_PLAIN = re.compile(
    rf"반말{_ANSWERING}|반말로(?:만)?(?:,| (?:짧게|간단히|[가-힣\d]+ ?(?:문장|줄|단계|가지)))"
    r"|반말(?:을|로)? ?(?:써|사용|해|부탁|가능)|말 ?(?:놓아|놔|놓고|편하게)|편하게 (?:말|반말|대답|얘기)"
    r"|(?:존댓말|존대|높임말|경어)(?:은|는|을|를)? ?(?:쓰지|하지|빼|말고|없이|사용하지|금지|그만)"
    r"|(?:친구|동생|절친)(?:한테|에게)? ?(?:처럼|같이|하듯이?) (?:말|대답|답|설명|얘기|이야기|반말|편하|위로|조언|알려)"
)
_NOT_PLAIN = re.compile(
    r"반말(?:은|을|로)? ?(?:쓰지|하지|말고|빼|금지|대신|그만|사용하지)"
    r"|(?:존댓말|높임말|경어|합쇼체|해요체)(?:로|를|을|만) ?(?!쓰지|하지|빼|말)"
    r"|-(?:습니다|니다|요)['’\"”]? ?(?:체|로 끝)"
)
_SPOKEN = (  # said by somebody else than the assistant to its reader
    r"소설|이야기(?!해|하)|동화|우화|전래|설화|대본|시나리오|각본|대화문?|대사|독백|상황극|콩트|만담|유머|농담|개그|드립"
    r"|희곡|가사|노래|랩|동요|자장가|시조|하이쿠|행시(?<=[가-힣N]행시)|축시"
    r"|시(?<![가-힣].)(?=[를로한의 ])|편지|쪽지|문자|카톡|톡|메시지"
    r"|댓글|답글|트윗|인스타|SNS|캡션|일기"
    r"|방명록|롤링페이퍼|고백|응원|건배사|주문|구호|챈트|혼잣말|줄거리|시놉시스|장면|첫 문장|도입부|전개|결말|작품"
)
_WRITTEN = (  # addressed to nobody: written -다 or nouns
    r"보고서|논문|초록|초안|서론|결론 ?부분|배경 ?기술|특허|명세서|청구항"
    r"|연구[의 ]*(?:범위|배경|목적|계획)|기획서|제안서|계획서|백서|캐릭터|세계관"
    r"|기사|사설|칼럼|헤드라인|에세이|수필|독후감|감상문|서평|리뷰|설명문|논설|글(?<![가-힣].)|문단|문장|본문|메일|연설"
    r"|선언문|회의록|의사록|메모|노트|개요|일지|이력서|자기소개서|자소서|경력|약관|계약서|조항|공고|안내문|공지|포스터|전단|광고|카피|목차|상호"
    r"|해시태그|시험지|질문지|설문|풍경|상세 ?페이지|상품 ?설명|제품 ?설명|백과|증명|JSON|json|CSV|csv"
    r"|YAML|XML|HTML|SQL|코드|주석|커밋"
    r"|수학 ?문제|시험 ?문제|객관식 ?문제|주관식 ?문제|연습 ?문제|응용 ?문제|예상 ?문제|퀴즈 ?문제"
)
_LINES = (  # every line stands alone, the one a question, the next a promise
    "제목|부제|슬로건|표어|구호|캐치프레이즈|문구|글귀|카피|명언|격언|속담|좌우명|가훈|급훈|예문|퀴즈|수수께끼|넌센스|별명|닉네임"
)
_FREE_TEXT = re.compile(rf"(?:{_SPOKEN})[^.?!\n]{{0,60}}{_MAKE}")  # alone, it opens with a letter: re skips to the next
_FREE = re.compile(
    rf"(?:유머|농담|개그|드립|건배사|명대사|이야기(?!해|하))[^.?!\n]{{0,20}}{_TELL}"
    rf"|(?:{_LINES})[^.?!\n]{{0,30}}{_TELL}|이름[^.?!\n]{{0,12}}(?:지어|짓|만들|붙여)"
    r"|(?:제목|표어|슬로건|구호|카피|문구|가사|노래|동시|대본)\W*$"
    r"|처럼 (?:말|대답|답|이야기|얘기|행동|굴|써|연기)|말투로?|어투로?|톤으로|사투리로|버전으로"
    r"|(?<!무슨 )(?<!어떤 )역할을 (?:맡|해|수행|연기)|역할극|인 척|빙의"
    r"|[이가] (?:되어|돼서|됐다고|되었다고|된 것처럼),? [^.?!\n]{0,20}(?:말|답|써|쓰|해|이야기|소개)"
    r"|라고 (?:생각|가정|상상)하고|입장에서 (?:말|써|쓰|대답|이야기)"
    r"|(?:너는|넌|당신은|네가|지금부터) [^.?!\n]{1,40}(?:이야|야|이다|입니다|이에요|예요|해라|맡아)(?:[.!, ]|$)"
    r"|연기해|흉내|성대모사|[일1]인칭"
)
_PROSE_TEXT = re.compile(rf"(?:{_WRITTEN})[^.?!\n]{{0,40}}{_MAKE}")
_PROSE = re.compile(
    r"증명(?:해|하|을)|묘사해|묘사하|서술|[한하이]라?다체|평서체|[함음]체|개조식|문어체|음슴체"
    r"|요약|번역|회의록|발음 연습|문체|높임|발췌|문제(?:를|을)? ?(?:하나|두|세|\d|내 ?[줘주]|출제|만들)"
)
_WRITING = re.compile(
    r"(?:바꿔|바꾸어|고쳐|수정해) ?(?:줘|주|봐|보|라|쓰|써|적)|바꾸시오|고치시오|문장을|이어 ?(?:써|쓰|서)|빈칸(?! ?문제)"
)

_NO_TEXT = re.compile(  # a kind of text is named, but none is asked for
    r"번역가|이야기가 (?:나왔|나와|나오|바뀌)|글쓰기(?:를|도)? ?(?:배우|배웠|공부|좋아|모임|수업|동아리|강좌)"
    r"|쓰는 게 (?:나|낫|좋)"
    r"|(?:속담|격언|명언)[^.?!\n]{0,15}(?:설명|언제 (?:쓰|써)|무슨 뜻|뜻이|의미)[^.?!\n]{0,40}"
    r"|[가-힣]{1,10}[을를] (?:써야|쓰려|적어야)[가-힣 ]{0,6}는데(?![^.?!\n]{0,60}(?:써|적어|지어|만들어|작성|부탁))"
)


@lru_cache(maxsize=4096)
def asked_for(prompt: str) -> Genre:
    """Cached: the candidates of one prompt come one after another.

    `신문 기사를 써야 하는데 구성을 알려 줘`, `속담을 설명해 주세요` and what a 번역가 asks want no text: polite.
    """
    prompt = _NO_TEXT.sub("", prompt)
    changed = _CHANGED.search(prompt)
    if not changed and _NOT_PLAIN.search(prompt):
        return Genre("any", True) if (_FREE_TEXT.search(prompt) or _FREE.search(prompt)) else _POLITE
    if _PLAIN.search(prompt):
        return Genre("any" if changed else "plain", False)
    if _HOW_TO.search(prompt):
        return _POLITE
    if _FREE_TEXT.search(prompt) or _FREE.search(prompt):
        return Genre("any", True)
    if changed or "반말" in prompt or _PROSE_TEXT.search(prompt) or _PROSE.search(prompt) or _WRITING.search(prompt):
        return Genre("any", False)
    return _POLITE


_NUMBER = re.compile(r"^[ \t]*(\d{1,2})[.)] ", re.MULTILINE)


def question_at(place: int, text: str, prompt: str) -> str:
    """Which of several numbered questions `text` answers at `place`, with what opens them; the prompt where the numbers differ.

    `1. 슬로건을 지어 줘.\n2. GDP가 뭐야?`: what stands below `2.` in the answer is no slogan.
    """
    opening, *asked = _NUMBER.split(prompt)
    answered = list(_NUMBER.finditer(text)) if len(asked) > 2 else []
    numbers = [match[1] for match in answered]
    if len(numbers) < 2 or numbers != asked[: 2 * len(numbers) : 2]:
        return prompt
    before = sum(match.start() <= place for match in answered)
    return opening + asked[2 * before - 1] if before else prompt


_ONE_SENTENCE = re.compile(r"(?:한|1) ?(?:문장|줄|마디)(?:으?로)|(?:한|1) ?단어로")
_AT_LENGTH = re.compile(
    r"자세|상세|길게|작성|구현|설계|코드|예제|예시|단계|분석|비교|설명|증명|계획|전략|보고서|에세이|소설|번역|정리|목록|만들"
)
_TIMES = 3
_DETAILED = 40  # letters of a question that says what it wants


def longest_wanted(prompt: str | None, limit: int) -> int:
    """Letters that an answer may have: 300 for one sentence, three times the limit for what takes room, such as a report."""
    if prompt and _ONE_SENTENCE.search(prompt):
        return min(limit, 300)
    return limit * _TIMES if prompt and (len(prompt) > _DETAILED or _AT_LENGTH.search(prompt)) else limit


_WORDY = re.compile(r"[가-힣]{2}|[A-Za-z]{2} [A-Za-z]{2,} [A-Za-z]{2}")
_STATEMENT = re.compile(
    r"[;{}]\s*$|^\s*(?:[)\]}#]|//|/\*|@)|^\s*(?:import|from|def|class|return|for|if|else|elif|while|try|except|with|print|public"
    r"|private|static|void|int|const|let|var|function|func|fn|package|using|SELECT|FROM|WHERE|INSERT|UPDATE|CREATE)\b.*[^.!?]$"
    r"|^[\w.\[\]\"' ]+ ?[-+*/|]?= ?\S|^\s*[\w.]+\([^가-힣]*\)$"
)
_PROOF_ASKED = re.compile(r"증명(?:해|하|을|과정)|보이시오|보여라|임을 보여")
_RELATION = re.compile(r"[=≡≤≥<>∈⊆⊂∀∃⇒→√]|\\[a-z]+")
_CODE_LINES, _ROWS, _RELATIONS = 3, 2, 3


def outside(text: str, prompt: str | None = None) -> str:
    """The kind: nothing but code, nothing but a table, a proof; "" for what the judge is made for.

    Their form follows other rules: filters drop no row for it, pairs are not labelled by it, gate and evaluation count such
    answers apart. A loop, a leak, a cut and another language are still found.

    >>> outside("```sql\\nSELECT name FROM users;\\n```"), outside("| 가 | 1 |\\n| 나 | 2 |"), outside("네, 맞습니다.")
    ('code', 'table', '')
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) >= _ROWS and all(line.count("|") >= 2 or line.count("\t") >= 1 for line in lines):
        return "table"
    if "```" in text and not _WORDY.search(without_code(text)):
        return "code"
    others = (line for line in lines if not _STATEMENT.search(line))
    if len(lines) > _CODE_LINES and next(islice(others, len(lines) // 10, None), None) is None:
        return "code"
    if prompt and _PROOF_ASKED.search(prompt) and len(_RELATION.findall(text)) >= _RELATIONS:
        return "proof"
    return ""


# ---- technical texts

_TECHNICAL = re.compile(
    r"`|코드|함수|변수|서버|클래스|객체|메서드|메소드|프로그래밍|프로그램|컴포넌트|쿼리|데이터베이스|명령"
    r"|터미널|패키지|라이브러리|프레임워크|브라우저|배열"
    r"|컴파일|스크립트|디렉터리|디렉토리|파일|알고리즘|커밋|쿠버네티스|클러스터|컨테이너|모듈|인스턴스"
    r"|파라미터|매개변수|인자|인수|반환|옵션|플러그인|배포|빌드"
    r"|소프트웨어|하드웨어|네트워크|프로토콜|리눅스|윈도우|파이썬|자바|리액트|벡터|행렬|미분|적분|방정식|확률"
    r"|통계|회귀|신경망|머신러닝|딥러닝|학습률|유전자"
    r"|단백질|분자|세포|화학|물리|회로|전압|엔진|설정|입력|출력|이벤트|상태|렌더링|스레드|프로세스|메모리"
    r"|캐시|토큰|세션|인증|타입|문법|문자열|정수"
    r"|[a-z][A-Z]|[A-Za-z]_[A-Za-z]|\w\(\)|API|HTML|CSS|SQL|JSON|HTTP|URL|Python|Java|Linux|Docker|React|Vue|Git|AWS|CPU|GPU"
)
_COMPUTING = re.compile(  # one of them makes a text technical
    r"매개 ?변수|식별자|열거형|리터럴|접근자|튜플|네임스페이스|디렉터리|디렉토리|심볼릭|생성자|연산자|데코레이터"
    r"|제네릭|인터페이스|구문 분석|라이브러리|프레임워크|쿠버네티스|도커|리눅스|파이썬|자바스크립트|타입스크립트"
    r"|리액트|컴포넌트|데이터베이스|프로그래밍|컴파일|깃허브|```|[a-z]\(\)"
    r"|파티션|마운트하|부팅|부트 ?로더|커널|데비안|우분투|펌웨어|체크섬|시스템 호출|환경 변수|명령어를 (?:실행|입력)"
)


def is_technical(text: str, prompt: str | None) -> bool:
    """Whether it is about computing, mathematics or a science, where English terms are to be expected."""
    return bool((prompt and _TECHNICAL.search(prompt)) or _COMPUTING.search(text)) or len(_TECHNICAL.findall(text)) >= 2
