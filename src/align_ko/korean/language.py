"""Is the answer Korean, line by line, and does English stand where a Korean word belongs?

What is no prose does not count: code, tables, formulas, glosses in parentheses, quotations, names and titles, and formats
that were asked for. Foreign text is expected only where the prompt asks for it, not because 자바 or 번역 occurs in it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from align_ko.korean.prose import Span, blank, without_code

_HANGUL = re.compile(r"[가-힣]")
_FOREIGN = "A-Za-z\u00aa-\u02ff\u0370-\u1fff\u2c00-\u2dff\u3041-\u30ff\u3400-\u9fff"
_LETTER = _LETTERS = re.compile(rf"[{_FOREIGN}]")
_LATIN = re.compile("[A-Za-z]")
_FOREIGN_TWO = re.compile(rf"[{_FOREIGN}]{{2}}")
_WORD = re.compile(rf"[{_FOREIGN}]+(?:['’][{_FOREIGN}]+)*")

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
_TRANSLATE = re.compile(r"번역")
_INTO_KOREAN = re.compile(r"(?:한국어|한국말|한글|우리말|국문)로|in Korean|into Korean", re.IGNORECASE)
_IN_ENGLISH = re.compile(r"in english|into english|in (?:japanese|chinese|french|german|spanish)", re.IGNORECASE)


@lru_cache(maxsize=4096)
def foreign_wanted(prompt: str) -> bool:
    """Does the prompt ask for output in another language?

    `김치를 영어로 소개해 줘`, `번역해 줘: 나는 학생이다` → True; `번역가가 되려면?`, `영어 공부는 어떻게 시작하나요?` → False.
    """
    if not _HANGUL.search(prompt):
        return bool(_LETTERS.search(prompt)) and not re.search("korean", prompt, re.IGNORECASE)
    if _INTO_KOREAN.search(prompt) and not _IN_ENGLISH.search(prompt):
        return False
    if _OUTPUT_IN.search(prompt) or _IN_ENGLISH.search(prompt):
        return True
    # 다음을 번역해 줘: a Korean text is put into another language, a foreign one into Korean.
    if re.search(r"번역(?:해|하|을 부탁|부탁|문을|본을| 좀)", prompt):
        return len(_LETTERS.findall(prompt)) * 3 < len(_HANGUL.findall(prompt))
    return False


@lru_cache(maxsize=4096)
def format_wanted(prompt: str) -> bool:
    """`JSON으로 답해 줘`, `파이썬 코드를 짜 줘`: words of a format are to be expected."""
    return bool(_FORMAT_ASKED.search(prompt))


@lru_cache(maxsize=4096)
def _foreign_words(prompt: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(prompt))


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
_ASIDE = re.compile(
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


def _prose(text: str) -> str:
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
    asked = " ".join(_foreign_words(prompt)) if prompt else ""
    bare = _prose(text)
    sure: list[Span] = []
    loose: list[Span] = []
    certain = doubtful = position = 0
    for line in bare.split("\n"):
        begin, position = position, position + len(line) + 1
        if not _FOREIGN_TWO.search(line) or line.count("|") >= 2:
            continue
        hangul = _HANGUL.search(line) is not None
        if hangul and len(_LETTER.findall(line)) < 10:
            continue
        if _YEAR.search(line) and _REFERENCE.search(line) and _HANGUL.search(bare):
            continue
        prose = len(_PROSE_WORD.findall(line)) > 1 and not (code and _COMMENT.match(line))
        if not hangul and _SURELY_CODE.search(line):
            continue
        if not hangul and not prose and (code or _LIKE_CODE.search(line)):
            continue
        inner = blank(line, _ASIDE) if hangul else line
        if hangul and len(_LETTER.findall(inner)) < 10:
            continue
        for match in _SENTENCE.finditer(inner):
            words = _WORD.findall(match[0])
            size = sum(map(len, words))
            if size <= len(_HANGUL.findall(match[0])) or (asked and " ".join(words).lower() in asked):
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
    if not sure and len(loose) >= _MANY_LINES and not code and not _is_technical(text, prompt):
        sure = loose
    if not certain + doubtful and '":' not in text and text.lstrip()[:1] not in ("[", "{"):
        return Foreign(False, tuple(sure))
    korean = len(_HANGUL.findall(bare))
    other = certain if code or korean >= _SOME else doubtful + certain
    if '":' in text or text.lstrip()[:1] in ("[", "{"):
        other = max(other, _foreign_values(text))
        korean = max(korean, len(_HANGUL.findall(text)))
    return Foreign(other >= 10 and _A_SYLLABLE * korean < other, tuple(sure))


_A_SYLLABLE = 2
"""Letters that say as much as a syllable of Korean."""
_MANY_LINES = 3
"""So many English lines that are no sentences (`1 medium onion, chopped`) are no names any more."""
_VALUE = re.compile(r"\"([^\"\n가-힣]{20,600})\"")


def _foreign_values(text: str) -> int:
    """Letters of the English sentences among the values of an object: `{"요약": "The article discusses the impact of …"}`."""
    values = [_WORD.findall(value) for value in _VALUE.findall(text)]
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
    if _HANGUL.search(text):
        return False
    words = _WORD.findall(text)
    size = sum(map(len, words))
    if not 1 <= len(words) <= 3 or size < 2 or size > 24 or re.search(r"[\d_=(){}\[\]<>/\\]", text):
        return False
    if prompt is None or not _HANGUL.search(prompt) or foreign_wanted(prompt):
        return False
    said = " ".join(words)
    if said.lower() in prompt.lower():
        return False
    if _ANSWER.fullmatch(said):
        return not format_wanted(prompt)
    return said.islower() and not format_wanted(prompt) and not _NAME_ASKED.search(prompt)


# ---- English words in Korean sentences --------------------------------------------------------------------------------

_UNITS = """
kg km cm mm nm ml dl mg kb mb gb tb kcal cal hz khz mhz ghz db kw kwh mph kph rpm psi bar ppm ppb ppi dpi fps bps
kbps mbps gbps px pt em rem vh vw oz lb lbs ft inch inches min sec hr hrs am pm vs etc eg ie mol rad deg lux atm mmhg
gal tsp tbsp cup cups won usd sqft yd acre ton lumen bit byte bits bytes kilo mega
"""
_MATHS = """
sin cos tan sec csc cot log ln exp lim max min mod det dim gcd lcm sup inf arg sqrt abs sgn rank deg var cov dx dy dt dz dr
"""
_LOANS = """
app apps web email mail wifi blog online offline internet url http https ebook vlog podcast feat remix ver cafe mbti
iphone ipad ios macos ebay adidas youtube facebook instagram google naver kakao line mp3 mp4 pdf ppt jpg jpeg png gif
svg zip exe csv json xml html css sql txt doc docx xls xlsx hwp pvc mrna trna rna dna ph cis trans alpha beta gamma
delta lambda sigma theta omega epsilon et al via
true false null none undefined nan void const switch case catch class enum async await yield strict rest spread props state
hook hooks ref refs
"""
_EXCUSED = frozenset(f"{_UNITS} {_MATHS} {_LOANS}".split())
# Words that no trade has made its own: a fault even in a text full of terms.
_GENERAL = frozenset(
    """
the and but because however therefore although though while also very really just only even still already almost
always never often sometimes usually about above after again against along among around before behind below beneath
beside between beyond during except inside into like near off onto outside over since through toward towards under
until upon within without this that these those which what who whom whose when where why how here there they them
their theirs our ours your yours his her hers its she him you are was were been being have has had does did doing
would could should might must shall will can cannot not more most less least much many some any every each both few
several other another such same different similar important necessary essential useful helpful significant beautiful
wonderful excellent great good better best bad worse worst big small large huge tiny long short high low old new
young early late fast slow easy hard difficult happy sad angry afraid tired busy free ready sure clear simple complex
complicated possible impossible certain likely unlikely common rare usual strange normal special general specific
various people person man woman men women child children family friend friends parent parents mother father baby
teacher student world life death day night week month year years time today tomorrow yesterday morning evening thing
things place places way ways house room food water health healthy exercise stress mood mind body brain heart hand
hands eye eyes face sleep dream money price cost market job career business society culture history nature
environment future past present problem problems solution question answer reason result effect benefit benefits
advantage disadvantage experience knowledge information informed opportunity challenge challenges growth development
improvement improve increase decrease reduce enhance achieve consider understand explain describe discuss provide
help need want try make take give get become begin start stop keep think know believe feel say tell ask talk speak
listen hear see look watch learn teach study read write visit travel eat drink buy sell pay spend save work play walk
run live love hate hope wish known called named made used based related due according including especially
particularly generally actually finally firstly secondly moreover furthermore meanwhile otherwise instead indeed
perhaps maybe ability activity amount area aspect attention attitude behavior belief century choice community
competition condition consequence conversation country decision degree difference difficulty discussion disease
economy education effort emotion employee employment energy engagement evidence example expectation explosive factor
failure feeling fear freedom friendship government happiness importance individual influence interest issue law
leader leadership level lifestyle luck memory moment opinion peace performance personality perspective pleasure
policy population power practice pressure pride progress promise purpose quality reality regular relationship relax
respect responsibility risk safety satisfaction season sense situation skill skills social success successful sweat
speaker talent taste tendency thought tradition traditional trust truth understanding value variety victory view
violence warfare war wealth weekly daily monthly yearly weight young youth direct directly quickly slowly easily
clearly simply consultation registration registered contribution gathering natural renewable ongoing occupancy
progressively equally gigantic humans alike rich colorful fishing nearly unbearable decade city tape replacement
broth applicants compared plans cover warning unnamed heralding companionship influences fun grown
""".split()
)
# The ones among them that are no term in any trade.
_NEVER_TERMS = frozenset(
    """
very really because however therefore although though also just even still already almost always never often
sometimes usually their theirs our your his him her hers they them she you should would could might must shall
beautiful wonderful excellent great good better best important necessary essential useful helpful significant happy
sad angry people various different difficult easy possible impossible itself himself herself themselves experience
opportunity challenge challenges advantage disadvantage benefits friend friends family morning evening today tomorrow
yesterday friendship happiness importance understanding improvement moreover furthermore meanwhile otherwise instead
indeed perhaps maybe especially particularly generally actually finally people's informed speaker consider understand
explain describe discuss improve enhance achieve believe known engagement likely unlikely gigantic colorful nearly
explosive
""".split()
)
# Words of computing that mean nothing else: excused wherever they stand, and one of them makes a text technical.
_COMPUTING_WORDS = frozenset(
    """
abstract arg args assertion async auth autoload await babel backend bash boolean bool bundler bytecode callback cgroup
changelog checkout checksum chmod chown chroot cli cmd codec config configmap constructor cookie coroutine cron ctl curl
daemon dataclass dataset datetime dataframe debugger decorator deserialize dict docker dockerfile docstring doctest dom
dto endpoint enum eslint favicon fixture foreach frontend getter github gitignore goroutine gradle grep hashmap hotfix
iframe immutable import ingress init inode instanceof integer ipynb iterator javac javascript jest jpa jsx jwt kubectl
kubelet kwargs lambda lint linter localhost localstorage lockfile logits loopback malloc maven memoization metadata
middleware migration mixin mock monorepo mutable mutex namespace nginx nil npm matplotlib plotly seaborn sklearn pytorch
keras jquery lodash axios nullable nullish numpy oauth onclick opcode orm pandas param params parser payload pip plugin
polyfill postgres preload prettier prop props pytest ramdisk readme rebase reducer redis redux ref refactoring regex
regexp renderer repo repository rerender replica replicas resolver rollback router runtime schema schemas scrapy sdk
selector semaphore semver serialize serializer servlet setter shader singleton snippet socket softmax sourcemap spec ssh
stacktrace stateful stateless stderr stdin stdout str stub submodule subnet subquery sudo sudoers symlink syntax systemd
tensor tensorflow terraform testcase timestamp token tokenizer toolchain toctree transpile truthiness truthy falsy tuple
typedef typescript typeof uint undefined unicode unittest unix urls utf uuid varchar virtualenv vite vue webhook webpack
websocket whitespace xpath yaml yarn
""".split()
)
# What such a word names: extends 절, for문, drawable 레이어.
_NAMED_KIND = re.compile(
    r" ?(?:문|절|버튼|단추|지시문|키워드|옵션|구문|연산자|메서드|메소드|함수|클래스|필드|객체|변수|명령어?|파일|폴더"
    r"|태그|컴포넌트|패키지"
    r"|모듈|라이브러리|브랜치|커밋|레이어|플래그|매개 ?변수|인자|인수|헤더|쿼리|노드|컨테이너|네임스페이스|포맷|확장자|스크립트"
    r"|인터페이스|리터럴|열거형|디렉터리|디렉토리)(?![가-힣]{3})"
)
_ADVERB = re.compile(  # not plotly or bitly
    r"(?:al|nt|ive|ous|ful|ab|ib|ic|ed|ing|ar|less|ete|ate|ure|ect|ow|ick|ong|oud|ear|ain|imp|ss|er|ri|si|ti|ppi|lu|st|ss|gh|ke|ne"
    r"|id|me|re|ave|ep|en|rm|tr)ly$"
)
_NO_ADVERBS = frozenset(
    "only early apply reply assembly family supply multiply anomaly readonly monthly weekly daily hourly nightly poly".split()
)
_GRAMMATICAL = frozenset("is it in of to or by on at as an if so be we he do my me us up no go".split())
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
_MAYBE = re.compile(
    r"참조|지시문|필드|블록|경로|링크|문서|속성|모드|버전|오류|경고|활성화|서식|확장자|검색|화면|계정|접속|플랫폼|브랜드|@"
)
_NEAR_LATIN = r"A-Za-z0-9_./@#&+\-\u2010-\u2015'’:=\\$%*~^<>{}|\u00ad"
_LOWER = re.compile(
    rf"[a-z](?<![{_NEAR_LATIN}\u00df-\u024f\u1e00-\u1eff].)[a-z\u00df-\u024f\u1e00-\u1eff]+"
    rf"(?![A-Za-z0-9_\u2010-\u2015\u00ad/@#&+=\\$%*~^(<>{{}}|\-:]|\.\w)"
)
_LEFT_NAME = re.compile(r"[A-Z][\w'’.\-]*(?: [a-z]+)? $", re.ASCII)
_RIGHT_NAME = re.compile(r" [A-Z][a-z]")
_LABEL = re.compile(r"[\s\-*•·\d.)#]*\*{0,2}[A-Za-z][A-Za-z ]{0,40}\*{0,2} ?(?::|[-–—] |\()")
_GROWN = re.compile(r"[가-힣]?(?:[한할해했된될됨된]|습니다|입니다|니다)")


_CALLED = re.compile(r"[(\[][^가-힣()\[\]\n]{0,80}[)\]]")
# Words that an answer about English speaks of: however나 for example 앞뒤에서
_ABOUT_ENGLISH = re.compile(r"영어|영문법|토익|토플|수능|독해|영단어")
_NAMED_AS_WORD = re.compile(r"(?: [a-z]+){0,3}(?:(?:이?나|[와과은는을를]|이?라는|이?란|처럼) | ?(?:같은|앞|뒤|다음))")


_VALUE_IN_KOREAN = re.compile(r"\"([^\"\n]*[가-힣][^\"\n]*)\"(?!\s*:)")
_UNTIL = re.compile(r"\((?=[a-z ]*\b(?:until|since|from|by|for|per|about|only)\b [^()\n]*\d)[^()가-힣\n]{1,60}\)")


def with_values(text: str, masked: str) -> str:
    """`masked` with the Korean values of a JSON answer put back: they are no quotations. `{"content": "task list 작성"}`"""
    if '":' not in text or text.lstrip()[:1] not in ("{", "["):
        return masked
    for match in _VALUE_IN_KOREAN.finditer(text):
        start, end = match.span(1)
        masked = masked[:start] + match[1] + masked[end:]
    return masked


def english_words(masked: str, prompt: str | None = None, *, text: str = "") -> list[Span]:
    """Lower-case English where a Korean word belongs: `야채 broth 1컵`, `잘informed된`, `현대 warfare에서`.

    Terms, units, brands, commands, file names, words of the prompt, of code and of quotations in `text`, and glossed words
    are fine: `start를 빼면` below `enumerate(names, start=1)`, `set(fruits)만`. In a technical text only words that are no
    terms at all are faults. `masked`: the writer's own words, quotations and code blanked.
    """
    if not _LOWER.search(masked) or not _HANGUL.search(masked):
        return []
    if prompt and foreign_wanted(prompt):
        return []
    asked = frozenset(_foreign_words(prompt)) if prompt else frozenset()
    said = blank(_prose(masked), _ASIDE)
    technical: bool | None = None
    shown: set[str] | None = None
    # No gloss, which would say what a Korean word is called: (until 3/20).
    found = [Span(*match.span()) for match in _UNTIL.finditer(masked) if match[0][1].islower()] if "(" in masked else []
    for match in _LOWER.finditer(said):
        start, end = match.span()
        word = match[0]
        glued = "가" <= said[start - 1 : start] <= "힣"
        if word == "per" and re.search(r"\d\w* $", said[max(0, start - 8) : start]):  # 1d8 per 레벨
            continue
        if (
            word in _EXCUSED
            or word in _COMPUTING_WORDS
            or word in asked
            or (len(word) < 3 and not glued and word not in _GRAMMATICAL)
        ):
            continue
        line_start = said.rfind("\n", 0, start) + 1
        line_end = said.find("\n", end)
        line = said[line_start : len(said) if line_end < 0 else line_end]
        if (
            not _HANGUL.search(line)
            or line.count("|") >= 2
            or line.lstrip().startswith('"')
            or _is_label(line, start - line_start)
        ):
            continue
        adverb = len(word) > 5 and bool(_ADVERB.search(word)) and word not in _NO_ADVERBS
        left, right = _LEFT_NAME.search(said, max(0, start - 30), start), _RIGHT_NAME.match(said, end)
        if (left and right) or ((left or right) and not (word in _GENERAL or adverb or glued)):
            continue
        if technical is None:
            technical = "```" in text or _is_technical(masked, prompt) or not _COMPUTING_WORDS.isdisjoint(_LOWER.findall(said))
        if word not in _NEVER_TERMS and not glued and _NAMED_KIND.match(said, end):
            continue
        # 습니da, 까zan: letters within a Korean word are no term; 변수x, 함수print are.
        grown = glued and len(word) > 1 and (_GROWN.match(said, end) if technical else True)
        general = word in _NEVER_TERMS if technical else word in _GENERAL or word in _GRAMMATICAL
        if not general and not grown and not adverb and _MAYBE.search(line):
            continue
        if technical and not grown and not adverb and not (general and not left and not right):
            continue
        if _CALLED.match(masked, end) or (prompt and _ABOUT_ENGLISH.search(prompt) and _NAMED_AS_WORD.match(said, end)):
            continue
        if shown is None:
            shown = {each[0] for each in _WORD.finditer(text) if masked[each.start()] == " "}
        if word in shown:
            continue
        found.append(Span(start, end))
    return found


def _is_technical(text: str, prompt: str | None) -> bool:
    return bool((prompt and _TECHNICAL.search(prompt)) or _COMPUTING.search(text)) or len(_TECHNICAL.findall(text)) >= 2


def _is_label(line: str, place: int) -> bool:
    """`- commit: 변경 사항을 저장합니다.`: the word that a line explains."""
    label = _LABEL.match(line) if place < 40 else None
    return label is not None and place < label.end()
