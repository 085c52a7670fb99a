"""What should never be seen in an answer: marks of a chat format, tags, blanks of a template; answers that say nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from align_ko.korean.genre import asked_for
from align_ko.korean.prose import Span, own_words

_MARK = (  # ChatML, Llama 3, Phi, Zephyr, EXAONE, Gemma, Llama 2 and Mistral, bare end marks
    r"<\|[A-Za-z0-9_]+\|>|\[\|[a-z]+\|\]|</?(?:start|end)_of_(?:turn|text)>|\[/?INST\]|<</?SYS>>"
    r"|</?s>|<(?:bos|eos|pad|unk)>|\[(?:EOS|PAD|UNK|BOS)\]"
)
_LEAK = re.compile(
    # Our own format, Alpaca's and KoAlpaca's: a heading of nothing but the role.
    r"^\s{0,3}#{2,4} ?(?:User|Assistant|System|Human|Instruction|Response|Input|Output|Explanation|Answer"
    r"|질문|답변|명령어|지시문?|입력|출력|응답|사용자|시스템)"
    r"(?: ?:|[ \t]*$)"
    rf"|{_MARK}|\[(?:END|STOP|SEP|CLS)\]"
    # reasoning and answer tags of other templates
    r"|</?(?:think|thinking|thought|answer|response|reasoning|reflection|output|question|instruction"
    r"|assistant|user|end|끝|답변|질문|정답|생각)>"
    r"|^(?:User|Assistant|Human|Bot|어시스턴트|챗봇) ?: "
    r"|^(?:질문자|사용자) ?: (?=[^\n]*\n+(?:어시스턴트|챗봇|답변자|인공지능|AI) ?: )",
    re.IGNORECASE | re.MULTILINE,
)
_LEAK_SIGN = re.compile(r"[#<\[]")  # one of these three is in every leak but the last
_ROLE_END = re.compile(r"[rtnRTN봇자트] ?: ")
_OPENING = re.compile(
    r"\s*(?:#{1,4} ?(?:정답|해설|풀이|설명)[ \t]*:[ \t]*\n|(?:AI|Answer|Response|Output|Final Answer|Model|Bot)[ \t]*:|"
    r"(?:assistant|user|system|model|bot|response|answer)[ \t]*\n)",
    re.IGNORECASE,
)
_ASKS, _ANSWERS = r"(?:질문|문제|Q) ?:", r"(?:답변|응답|대답|A) ?:"
_PAIR = re.compile(rf"^[ \t]*((?:{_ASKS}[^\n]*\n\s*)?{_ANSWERS}) ", re.MULTILINE)
_ASKED = re.compile(rf"\s*{_ASKS}\s*")
_ANSWERED = re.compile(rf"\s*{_ANSWERS} ")
_PAIRS_WANTED = re.compile(r"질문(?! ?있|(?:들|사항)?에 )|문답|면접|퀴즈|FAQ|Q ?& ?A|인터뷰|예상|문제|대본|대화", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:br|p|div|span|b|i|u|strong|em|ul|ol|li|h[1-6]|font|table|tr|td|center|hr|img|a)(?: [^<>\n]{0,80})?/?>"
    r"|&(?:nbsp|lt|gt|amp|quot|#39|#x27);",
    re.IGNORECASE,
)
_LITERAL_BREAK = re.compile(r"\\n(?![a-zA-Z{])|(?:\\n){2}")
_ABOUT_TAGS = re.compile(
    r"HTML|XML|태그|마크업|마크다운|웹 ?페이지|엘리먼트|요소|React|Vue|JSX|코드|이스케이프|엔티티|XSS", re.IGNORECASE
)
_ABOUT_BREAKS = re.compile(
    r"줄 ?바꿈|개행|이스케이프|제어 ?문자|특수 ?문자|문자열|정규|print|코드|JSON|LaTeX|수식", re.IGNORECASE
)
_TABLE_ROW = re.compile(r"[ \t]*\|.*\|[ \t]*")
_TO_FILL = (
    "이름|주소|메뉴|날짜|시간|장소|번호|연락처|가격|금액|내용"
    "|제목|상품|제품|회사|학교|카페|식당|도시|지역|직업|나이|[가-힣]명|입력"
)
_BLANK_TO_FILL = re.compile(
    rf"\[[가-힣 ]{{0,8}}(?:{_TO_FILL})\](?!\()(?=(?:은|는|이|가|을|를|의|에|에서|으로|로|와|과|님|입니다)(?![가-힣]))"
)
_FORM_WANTED = re.compile(
    r"양식|서식|템플릿|메일|편지|공지|계약|초안|문자|안내문|작성|써 ?[줘주]|쓰는|소개|대본|빈칸|예시|예문"
    r"|문법|스크립트|보고서|광고"
)
_CRAWLED = re.compile(
    r"(?:조회|추천|댓글|스크랩|공감|좋아요)(?: ?수)? ?:? ?[\d,]+ ?[|·] ?(?:조회|추천|댓글|스크랩|공감|좋아요"
    r"|공유)|무단 ?전재|저작권자 ?(?:©|\(c\))"
    r"|[가-힣]{2,4} 기자 ?[\w.]+@[\w.]+|▶ ?(?:관련|원문|더) ?(?:기사|보기)"
)
_CRAWLED_SIGN = re.compile("추천|조회|댓글|공감|좋아요|스크랩|무단|저작권자|기자|▶")


def template_leak(text: str, prompt: str | None = None) -> list[Span]:
    """`네.\\n\\n### User:\\n다음` → the span of `### User:`; `<answer>`, `값입니다.<br>`, `[맛집 이름]은 [주소]에 있습니다`."""
    possible = _LEAK_SIGN.search(text) or (": " in text and _ROLE_END.search(text))
    found = [Span(*match.span()) for match in _LEAK.finditer(text)] if possible else []
    if found and prompt and _PAIRS_WANTED.search(prompt):  # the parts of a dialogue that was asked for
        found = [each for each in found if not text[each.start : each.end].endswith(": ")]
    if not found and (opening := _OPENING.match(text)) and not (prompt and _PAIRS_WANTED.search(prompt)):
        found.append(Span(*opening.span()))
    if not found and ": " in text and not (prompt and _PAIRS_WANTED.search(prompt)):
        pairs = _PAIR.findall(text)
        if len(pairs) == 1 and (pair := _PAIR.search(text)) and not text[: pair.start()].strip():
            found.append(Span(*pair.span(1)))
    # A question of several lines said again: 질문: 하나씩 답해 주세요.\n1. …\n2. …\n답변: 1. …
    if not found and prompt and (asks := _ASKED.match(text)) and text.startswith(prompt.strip(), asks.end()):
        answered = _ANSWERED.match(text, asks.end() + len(prompt.strip()))
        found += [Span(asks.start(), answered.end())] if answered else []
    if _CRAWLED_SIGN.search(text):
        found += [Span(*match.span()) for match in _CRAWLED.finditer(text)]
    if "<" in text or "&" in text or "\\n" in text or "[" in text:
        found += _markup(text, prompt)
    return found


def control_mark(text: str) -> str:
    """The first token of a chat format that a text spells: `끝<|im_end|>` → `<|im_end|>`; a heading of a role is none."""
    found = re.search(_MARK, text, re.IGNORECASE)
    return found[0] if found else ""


def _markup(text: str, prompt: str | None) -> Iterator[Span]:
    said = own_words(text)
    context = f"{prompt or ''}\n{said}"
    if _TAG.search(said) and not _ABOUT_TAGS.search(context):
        begin = 0
        for line in said.split("\n"):
            if not _TABLE_ROW.fullmatch(line):
                yield from (Span(begin + tag.start(), begin + tag.end()) for tag in _TAG.finditer(line))
            begin += len(line) + 1
    if "\\n" in said and not _ABOUT_BREAKS.search(context):
        yield from (Span(*match.span()) for match in _LITERAL_BREAK.finditer(said))
    blanks = list(_BLANK_TO_FILL.finditer(said))
    if len(blanks) > 1 and not (prompt and _FORM_WANTED.search(prompt)):
        yield Span(blanks[0].start(), blanks[-1].end())


_PRAISE = (
    r"(?:(?:네|예|아|음|물론입니다|물론이죠|안녕하세요)[,.!]? ?)?(?:정말 |아주 |참 |매우 )?"
    r"(?:좋은|훌륭한|흥미로운|멋진|중요한|재미있는) (?:질문|주제|물음)"
    r"(?:입니다|이에요|이네요|이군요|이죠|을 하셨네요|이십니다)[.!]*"
)
_TELLS = "알려|설명해|소개해|답변해|답해|말씀해|추천해|안내해|정리해|설명|답변|안내|추천"
_LOOKS = "살펴보겠습니다|살펴볼게요|알아보겠습니다|알아볼게요|알아봅시다"
_WILL_TELL = (
    rf"[^.!?\n]{{0,60}}(?:{_TELLS}) ?(?:드리겠습니다|드릴게요|드리죠|줄게요|보겠습니다|하겠습니다|볼게요)[.!]*"
    rf"|[^.!?\n]{{0,60}}(?:[을를]|에 대해서?|[는은인]지) (?:[^.!?\n]{{0,20}} )?(?:{_LOOKS})[.!]*"
)
_HOLLOW = re.compile(rf"\s*(?:(?:{_PRAISE}|{_WILL_TELL})\s*)+")
_LATER = re.compile(r"확인|찾아|알아본|나중|잠시|곧|내일|연락|검토|기다려|준비|조사")
_ANNOUNCES = re.compile(
    r"(?:다음|아래|이하)(?:과|와) 같(?:습니다|아요|은데요|이 정리[가-힣 ]*)[.:]?$|(?:다음|아래)(?:을"
    r"|를) (?:참고|확인)하세요[.:]?$|다음과 같은 [가-힣 ]{1,20}(?:있습니다|있어요)[.:]?$"
)
_COUNTS_ONLY = re.compile(
    r"[^.!?\n]{2,60}(?:두|세|네|다섯|여섯|여러|몇|\d+) ?(?:가지|부분|단계|종류|요소|유형|갈래)(?:이|가|로"
    r"|으로|의 [가-힣]+[이가로]|의 [가-힣]+으로)? ?"
    r"(?:있습니다|있어요|나뉩니다|나눌 수 있습니다|나눌 수 있어요|구성됩니다|구성되어 있습니다|이루어집니다"
    r"|이루어져 있습니다|이루어져 있어요|구분됩니다)[.!]*"
)
_COUNT_ASKED = re.compile(r"몇|개수|갯수|숫자|수는")
_TITLE_ASKED = re.compile(r"제목|이름|표어|슬로건|단어|한 ?줄|한 ?마디|무엇|뭐|누구|어디|언제|몇|답만")
_TITLE = re.compile(
    r"\s*(?:#{1,6} [^\n]+|\*\*[^*\s]+(?: [^*\s]+){2,}\*\*|제목 ?: ?[^\n]+|<[가-힣][^<>\n]*>|\[[가-힣][^\[\]\n]*\])\s*"
)

_EXPLAIN = re.compile(r"(?<![가-힣])왜(?![가-힣])|어떻게 (?!부르|불러|쓰|적|읽|말)|까닭[은이]|설명해")
_NOUNS_ONLY = re.compile(r"[가-힣]{1,8}의 [가-힣]{1,6}(?: [가-힣]{1,6})?")  # 김치의 발효, 온도의 변화 과정
_CAUSE = re.compile(r"때문|덕분|탓$|[요다까죠네지어아]$")


def no_answer(text: str, prompt: str | None = None) -> Span | None:
    """The whole answer, where it says nothing: `좋은 질문입니다!`, `금리가 무엇인지 알려 드리겠습니다.`, a title alone."""
    if len(text) > 200 or not prompt:
        return None
    if asked_for(prompt).level != "polite":  # a line of a speech, a slogan, a title
        return None
    body = text.strip()
    if (_HOLLOW.fullmatch(body) and not _LATER.search(body)) or (_TITLE.fullmatch(body) and not _TITLE_ASKED.search(prompt)):
        return Span(0, len(text))
    if _NOUNS_ONLY.fullmatch(body) and _EXPLAIN.search(prompt) and not _CAUSE.search(body):
        return Span(0, len(text))
    if _COUNTS_ONLY.fullmatch(body) and not _COUNT_ASKED.search(prompt):
        return Span(0, len(text))
    return None


def announced_only(text: str) -> Span | None:
    """The announcement that nothing follows: `재료는 다음과 같습니다.` at the end."""
    body = text.rstrip()
    last = body[max(0, len(body) - 40) :]
    match = _ANNOUNCES.search(last)
    return Span(len(body) - len(last) + match.start(), len(body)) if match else None
