"""Does lower-case English stand where a Korean word belongs? Word lists, and what excuses a word where it stands."""

from __future__ import annotations

import re

from align_ko.korean.genre import is_technical
from align_ko.korean.language import ASIDE, HANGUL, WORD, foreign_wanted, without_formulas, words_asked
from align_ko.korean.prose import Span, blank

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
    if not _LOWER.search(masked) or not HANGUL.search(masked):
        return []
    if prompt and foreign_wanted(prompt):
        return []
    asked = frozenset(words_asked(prompt)) if prompt else frozenset()
    said = blank(without_formulas(masked), ASIDE)
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
            not HANGUL.search(line)
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
            technical = "```" in text or is_technical(masked, prompt) or not _COMPUTING_WORDS.isdisjoint(_LOWER.findall(said))
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
            shown = {each[0] for each in WORD.finditer(text) if masked[each.start()] == " "}
        if word in shown:
            continue
        found.append(Span(start, end))
    return found


def _is_label(line: str, place: int) -> bool:
    """`- commit: 변경 사항을 저장합니다.`: the word that a line explains."""
    label = _LABEL.match(line) if place < 40 else None
    return label is not None and place < label.end()
