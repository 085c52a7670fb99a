"""Is the answer Korean, line by line?

What is no prose does not count: code, tables, formulas, glosses in parentheses, quotations, names and titles, and formats
that were asked for. Foreign text is expected only where the prompt asks for it, not because 자바 or 번역 occurs in it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from align_ko.korean.genre import is_technical
from align_ko.korean.prose import Span, blank, without_code

HANGUL = re.compile(r"[가-힣]")
_FOREIGN = "A-Za-z\u00aa-\u02ff\u0370-\u1fff\u2c00-\u2dff\u3041-\u30ff\u3400-\u9fff"
_LETTER = _LETTERS = re.compile(rf"[{_FOREIGN}]")
_LATIN = re.compile("[A-Za-z]")
_FOREIGN_TWO = re.compile(rf"[{_FOREIGN}]{{2}}")
WORD = re.compile(rf"[{_FOREIGN}]+(?:['’][{_FOREIGN}]+)*")

_TONGUE = (
    "영어|영문|영어권|일본어|일어|중국어|불어|프랑스어|독일어|독어|스페인어|러시아어|라틴어|이탈리아어"
    "|베트남어|태국어|아랍어|포르투갈어"
    "|힌디어|몽골어|그리스어|터키어|인도네시아어|외국어|한자|한문|히라가나|가타카나|로마자|알파벳|English"
)
_FORMAT = (
    "JSON|CSV|XML|HTML|YAML|SQL|LaTeX|라텍스|마크다운|정규식|정규 표현식|쿼리|명령어|수식|행렬|CSS|ASCII"
    "|아스키|이모지|코드|함수|프로그램"
    "|스크립트|알고리즘|클래스|메서드|API|변수명|파일명|도메인|커밋"
)
_BUT_HOW = (  # 영어 단어를 언제 외우나요?, 영어 회화 학원을 추천해 줘: about the language, and not in it
    r"(?:(?!방법|[는을] ?법|요령|비결|어떻게|어떤|언제|얼마|왜|몇 ?개씩|도움|학원|학습|공부|외[우운웠]|선생|교재|강의|책|앱)"
    r"[^.?!\n])"
)
_WANTED = (
    r"써|쓰시오|작성|지어|만들|알려|추천|들려|보여|뽑아|내 ?[줘주]|부탁|소개해|적어|다듬|고쳐|바꿔|말해|골라|달아|붙여"
    r"|요약|정리해|옮겨|뭐(?:야|예요|라고|지)|무엇|뭔가|뭘까"
)
_OUTPUT_IN = re.compile(
    rf"(?:{_TONGUE})(?:로|으로)(?:는|도|만)?(?![가-힣])(?! ?(?:된|쓴|쓰인|적힌|작성된|말하는|공부|배우))"
    rf"|(?:{_TONGUE}) ?(?:단어|낱말|문장|예문|표현|인사말?|이름|자막|이메일|메일|편지|에세이|자기소개서?"
    rf"|이력서|대화문?|속담|명언|동화|회화|가사|질문|면접"
    rf"|버전|번역|시험|퀴즈|발음|스펠링|철자){_BUT_HOW}{{0,40}}?(?:{_WANTED})"
    r"|(?:를|을|은|는) 영어로|영작|영역해|원문|어원|스펠링|철자|팝송|(?:영|원)제목|이니셜|약자|줄임말|두문자"
    r"|팬그램|애너그램|로마자|알파벳",
    re.IGNORECASE,
)
_FORMAT_ASKED = re.compile(_FORMAT, re.IGNORECASE)
_INTO_KOREAN = re.compile(r"(?:한국어|한국말|한글|우리말|국문)로|in Korean|into Korean", re.IGNORECASE)
_IN_ENGLISH = re.compile(r"in english|into english|in (?:japanese|chinese|french|german|spanish)", re.IGNORECASE)


@lru_cache(maxsize=4096)
def foreign_wanted(prompt: str) -> bool:
    """Does the prompt ask for output in another language?

    `김치를 영어로 소개해 줘`, `번역해 줘: 나는 학생이다` → True; `번역가가 되려면?`, `영어 공부는 어떻게 시작하나요?` → False.
    """
    if not HANGUL.search(prompt):
        return bool(_LETTERS.search(prompt)) and not re.search("korean", prompt, re.IGNORECASE)
    if _INTO_KOREAN.search(prompt) and not _IN_ENGLISH.search(prompt):
        return False
    if _OUTPUT_IN.search(prompt) or _IN_ENGLISH.search(prompt):
        return True
    # 다음을 번역해 줘: a Korean text is put into another language, a foreign one into Korean.
    if re.search(r"번역(?:해|하|을 부탁|부탁|문을|본을| 좀)", prompt):
        return len(_LETTERS.findall(prompt)) * 3 < len(HANGUL.findall(prompt))
    return False


@lru_cache(maxsize=4096)
def format_wanted(prompt: str) -> bool:
    """`JSON으로 답해 줘`, `파이썬 코드를 짜 줘`: words of a format are to be expected."""
    return bool(_FORMAT_ASKED.search(prompt))


@lru_cache(maxsize=4096)
def words_asked(prompt: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in WORD.findall(prompt))


class Foreign(NamedTuple):
    """`whole`: is most of the answer foreign? `spans`: stretches in another language within a Korean answer."""

    whole: bool
    spans: tuple[Span, ...]


_NOTHING = Foreign(False, ())

# What is no prose: formulas, addresses, tags.
_NOT_PROSE = re.compile(
    r"\\[a-zA-Z]+|https?://\S+|www\.\S+|\$\$?[^$\n]{1,400}\$\$?|<[^<>\n]{1,200}>|\S{1,80}@\S{1,200}\.\S+"
    r"|\\\([^\n]{1,400}?\\\)|\\\[.{1,800}?\\\]",
    re.DOTALL,
)
_NOT_PROSE_SIGN = re.compile(r"[\\$<@]|https?:|www\.")
ASIDE = re.compile(
    r"[(（\[【][^()（）\[\]\n]{1,200}[)）\]】]|“[^”\n]{1,400}”|‘[^’\n]{1,400}’|「[^」\n]{1,400}」"
    r"|『[^』\n]{1,400}』|《[^》\n]{1,400}》"
    r"|〈[^〉\n]{1,400}〉|\"[^\"\n]{1,400}\"|'(?<!\w')[^'\n]{1,400}'(?![a-zA-Z])"
)
# Of a line without Hangul: signs of code, data or formulas. Wider than genre.py's lines of a program, where prose counts.
_LIKE_CODE = re.compile(
    r"[{};]\s*$|^\s*(?:[$#>%@]|//|--|[\[\]{}\"'(<])|[=!<>]=|=>|->|::"
    r"|\w\([^ ]{0,200}\)|\w\([^)]{0,200}\)\s*:?$|[A-Za-z]_[A-Za-z]"
    r"|^\s*(?:import|from|def|class|return|for|if|else|elif|while|try|except|with|print|const|let|var"
    r"|function|public|private|static|void|int"
    r"|SELECT|FROM|WHERE|INSERT|UPDATE|CREATE|sudo|apt|pip|npm|git|docker|kubectl|cd|ls|echo)\b.*[^.!?]$"
    r"|^\s*[\w.\-/]+ ?[=:] ?[^가-힣]*$|^[^가-힣]*[=^\\][^가-힣]*$"
)
# Conditions of any language, and what a program reports: TypeError: x.map is not a function
_SURELY_CODE = re.compile(
    r"^\s*(?:if|for|while|elif|elseif|until)\b.*(?:\w_\w|\w\[|\w\.\w+|==|!=|~=).*(?::|\{|\bdo|\bthen(?: return.*)?)\s*$"
    r"|^\s*(?:Uncaught )?[A-Z]\w+(?:Error|Exception|Warning): "
)
_YEAR = re.compile(r"\(\d{4}")
# Foster, D. P., & Stine, R. A. (2008). Alpha-investing: a procedure for …; Scott & Berger (2010), "Bayes …"
_REFERENCE = re.compile(r"[A-Z](?<![\w\-].)[\w\-]+(?:,? (?:&|and|et al)|, [A-Z]\.).{0,120}\(\d{4}[a-z]?\)")
_PROSE_WORD = re.compile(
    r"\b(?:und|der|das|ist|nicht|kann|eine|sich|für|mit|les|des|est|une|dans|pour|qui|avec|los|las|para|por|como"
    r"|the|is|are|to|of|and|a|in|you|this|that|for|it|will|can|be"
    r"|have|has|was|with|as|your|I|my|here|we|our|they|not|what|how|which|there|these)\b"
)
_TITLE_WORD = re.compile(
    r"[A-Z0-9]|[a-z]{1,2}[A-Z]|(?:a|an|the|of|and|or|in|on|to|for|with|by|at|de|la|le|von|van|vs|feat|from)$"
)
_CODE_SIGN = re.compile(r"[{};=<>$`|\\]|\w\(|--|&&")
_COMMENT = re.compile(r"\s*(?:#|//|/?\*|--|%|\"\"\")")
_SENTENCE = re.compile(r"[^.!?。]+(?:[.!?。]+(?!\s)[^.!?。]+)*[.!?。]*")


def without_formulas(text: str) -> str:
    said = without_code(text)
    return blank(said, _NOT_PROSE) if _NOT_PROSE_SIGN.search(said) else said


def _is_title(words: list[str]) -> bool:
    """`Death by a Thousand Cuts`, `Bruno Mars`: names and titles, not sentences."""
    return all(map(_TITLE_WORD.match, words)) and len(words) < 12


def foreign(text: str, prompt: str | None = None) -> Foreign:
    """Lines and sentences in another language.

    `Kimchi is a side dish.` → whole; `행복은 …. Happiness is a choice that you make. …` → the second sentence;
    `DNA는 디옥시리보 핵산(deoxyribonucleic acid)의 약자입니다.` → nothing.
    """
    if not _FOREIGN_TWO.search(text) or (prompt and foreign_wanted(prompt)):
        return _NOTHING
    code = bool(prompt and format_wanted(prompt))
    asked = " ".join(words_asked(prompt)) if prompt else ""
    bare = without_formulas(text)
    sure: list[Span] = []
    loose: list[Span] = []
    certain = doubtful = position = 0
    for line in bare.split("\n"):
        begin, position = position, position + len(line) + 1
        if not _FOREIGN_TWO.search(line) or line.count("|") >= 2:
            continue
        hangul = HANGUL.search(line) is not None
        if hangul and len(_LETTER.findall(line)) < 10:
            continue
        if _YEAR.search(line) and _REFERENCE.search(line) and HANGUL.search(bare):
            continue
        prose = len(_PROSE_WORD.findall(line)) > 1 and not (code and _COMMENT.match(line))
        if not hangul and _SURELY_CODE.search(line):
            continue
        if not hangul and not prose and (code or _LIKE_CODE.search(line)):
            continue
        inner = blank(line, ASIDE) if hangul else line
        if hangul and len(_LETTER.findall(inner)) < 10:
            continue
        for match in _SENTENCE.finditer(inner):
            words = WORD.findall(match[0])
            size = sum(map(len, words))
            if size <= len(HANGUL.findall(match[0])) or (asked and " ".join(words).lower() in asked):
                continue
            if size >= 5 and not _LATIN.search(match[0]):  # Chinese and Japanese write no spaces
                certain += size
                continue
            if len(words) < 3:
                continue
            if hangul and (_is_title(words) or not _PROSE_WORD.search(match[0])):  # names, commands and file names
                continue
            doubtful += size
            if not hangul and not _is_title(words) and not _CODE_SIGN.search(match[0]):
                loose.append(Span(begin + match.start(), begin + match.end()))
            # A name or a command of several words is no sentence.
            if (
                len(words) >= 5
                and not _is_title(words)
                and len(_PROSE_WORD.findall(match[0])) > 1
                and not _CODE_SIGN.search(match[0])
            ):
                certain += size
                doubtful -= size
                sure.append(Span(begin + match.start(), begin + match.end()))
    if not sure and len(loose) >= _MANY_LINES and not code and not is_technical(text, prompt):
        sure = loose
    if not certain + doubtful and '":' not in text and text.lstrip()[:1] not in ("[", "{"):
        return Foreign(False, tuple(sure))
    korean = len(HANGUL.findall(bare))
    other = certain if code or korean >= _SOME else doubtful + certain
    if '":' in text or text.lstrip()[:1] in ("[", "{"):
        other = max(other, _foreign_values(text))
        korean = max(korean, len(HANGUL.findall(text)))
    return Foreign(other >= 10 and _A_SYLLABLE * korean < other, tuple(sure))


_A_SYLLABLE = 2
"""Letters that say as much as a syllable of Korean."""
_MANY_LINES = 3
"""So many English lines that are no sentences (`1 medium onion, chopped`) are no names any more."""
_VALUE = re.compile(r"\"([^\"\n가-힣]{20,600})\"")


def _foreign_values(text: str) -> int:
    """Letters of the English sentences among the values of an object: `{"요약": "The article discusses the impact of …"}`."""
    values = [WORD.findall(value) for value in _VALUE.findall(text)]
    return sum(sum(map(len, words)) for words in values if len(words) >= 5 and not _is_title(words))


_SOME = 30
"""With so many syllables of Korean an answer is foreign only by whole sentences, not by names, commands and lists."""


_ANSWER = re.compile(
    r"(?:yes|no|true|false|good|bad|ok|okay|sure|hello|hi|thanks|thank you|left|right|none|maybe|correct"
    r"|incorrect|positive|negative|neutral|great"
    r"|fine|nothing|never|always|sorry|i see|of course|not sure|agree|disagree|up|down|both|all|one|two|three|more|less)",
    re.IGNORECASE,
)
_NAME_ASKED = re.compile(
    r"기호|약자|약어|단위|이름|명칭|브랜드|제목|누구|철자|노래|가수|회사|언어|도구|라이브러리|제품|모델|원소"
    r"|영단어|빈칸|보기|고르|선택"
)


def word_in_english(text: str, prompt: str | None = None) -> bool:
    """`Yes`, `false`, `Good.` to a Korean question; what the prompt offers or asks for by name is fine."""
    if HANGUL.search(text):
        return False
    words = WORD.findall(text)
    size = sum(map(len, words))
    if not 1 <= len(words) <= 3 or size < 2 or size > 24 or re.search(r"[\d_=(){}\[\]<>/\\]", text):
        return False
    if prompt is None or not HANGUL.search(prompt) or foreign_wanted(prompt):
        return False
    said = " ".join(words)
    if said.lower() in prompt.lower():
        return False
    if _ANSWER.fullmatch(said):
        return not format_wanted(prompt)
    return said.islower() and not format_wanted(prompt) and not _NAME_ASKED.search(prompt)
