"""Repairs that change nothing a reader would miss, each switchable by name, in the order in which they run.

| name            | before                           | after                      | where                              |
|-----------------|----------------------------------|----------------------------|------------------------------------|
| `nfc`           | ㅎㅏㄴ as three conjoining jamo  | 한                         | every message                      |
| `white_space`   | 서울은␣␣넓어요.␣⏎⏎⏎⏎한강도요.   | 서울은 넓어요.⏎⏎한강도요. | every message                      |
| `full_width`    | ＡＢＣ마트는 １２시，월요일에    | ABC마트는 12시, 월요일에   | answers                            |
| `stray_markers` | 답변: 서울이에요. 질문:          | 서울이에요.                | the ends of answers                |
| `particles`     | 책를 읽으면 돼요.                | 책을 읽으면 돼요.          | answers                            |
| `format_tokens` | 서울이에요.</s>                  | 서울이에요.                | the ends of answers; off by default |
| `personal_data` | 010-1234-5678로 전화 주세요.     | [전화번호]로 전화 주세요.  | every message; by `personal_data: mask` |

Code (fenced, in backticks, indented by four) is left alone. Each repair done twice is the repair done once. `format_tokens`
is not on by default: a leaked <|im_end|> is most often the mark of a model that ran on, and such rows are better dropped
(`template_leak`); whoever knows that an export merely forgot to strip it switches it on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from align_ko.curation.personal_data import mask
from align_ko.korean.particles import wrong_particles
from align_ko.korean.prose import own_words
from align_ko.recipe import DataRecipe
from align_ko.records import Fault, Message
from align_ko.turns import is_trained

_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`|^(?: {4}|\t)[ \t]*[^\s][^\n]*)", re.DOTALL | re.MULTILINE)
# Spaces of other widths, the Hangul filler and other line breaks; what is wider than nothing and draws nothing.
_ODD_SPACE = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u3164]")
_ODD_BREAK = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_NO_WIDTH = re.compile(r"[\u200b\u2060\ufeff\u00ad]")
_MARKS = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\u00ad]")
# Joiners build emoji and Indic or Persian words; only where both neighbours are Korean or Latin do they build nothing.
_LOST_JOINER = re.compile(r"(?:(?<=[가-힣A-Za-z0-9 .,!?\n])|\A)[\u200c\u200d]+(?=[가-힣A-Za-z0-9 .,!?\n]|\Z)")
_NEEDS_MARKS = re.compile(r"[\u0590-\u08ff\u0900-\u109f\u1780-\u17ff\ufb1d-\ufdff\ufe70-\ufefc]")  # right to left, Thai, Indic
_DIRECTION = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_WIDE_GAP = re.compile(r"(?<=[가-힣.,!?)])  (?=[가-힣A-Za-z0-9\"'(])")
_GAPS = re.compile(r"\S {2,}\S")
ODD = re.compile(r"[\r\x0b\x0c\x85\u00a0\u00ad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2069\u3000\u3164\ufeff]")

FULL_WIDTH = re.compile(r"[\uff01-\uff5e\u3001\u3002]")
_TO_ASCII = {code: code - 0xFEE0 for code in [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]}
_CJK_LINE = re.compile(r"[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_FULL_PAIR = re.compile(r"（(?=[^（）\n]{0,40}[0-9A-Za-z가-힣])([^（）\n]{1,200})）")
_FULL_STOP = re.compile(r"(?<=[가-힣A-Za-z0-9)\]\"'%])([，！？：；。、])(?:([！？]*)( ?))(?=(.?))")
_NEXT_TO_WORD = re.compile(r"(?<=[0-9A-Za-z가-힣)])[％＋＝／＆＠．](?=[0-9A-Za-z가-힣(]|\s|\Z)")
_STOPS = {"，": ",", "！": "!", "？": "?", "：": ":", "；": ";", "。": ".", "、": ","}
_SIGNS = {"％": "%", "＋": "+", "＝": "=", "／": "/", "＆": "&", "＠": "@", "．": "."}

# The ends of an answer
_NAME = r"(?:답변|대답|응답|A|Answer|Response)"
_LABEL = re.compile(
    rf"(?:\s*(?:\*\*{_NAME} ?[:：]\*\*|\*\*{_NAME}\*\* ?[:：]|\*\*\[{_NAME}\]\*\*[:：]?|[\[<【]{_NAME}[\]>】] ?[:：]?"
    rf"|{_NAME} ?[:：])(?=\s))+[ \t]*\n*",
    re.IGNORECASE,
)
_SPEAKER = re.compile(r"(?im)^\W{0,4}(?:[A-Za-z]|Q\d*|[가-힣]{1,5}|Question|Answer|Response)\W{0,3}[:：]")
# Nothing may follow: an opened next turn, a rule, a heading or a bracket without anything below it.
_TAIL = re.compile(
    r"(?:[ \t]*\n\s*(?:(?:질문|답변|대답|응답|Q|A|Question|Answer) ?[:：]|[\[【](?:질문|답변)[\]】]|#{1,6}|-{3,}|={3,}"
    r"|\*{3,}|\*\*)\s*)+\Z",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```|~~~")
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’"}
_SENTENCE_INSIDE = re.compile(r"[가-힣][.!?…]+[ \n]+\S")

_TOKEN = (
    r"(?:<\|(?:im_start|im_end|endoftext|end_of_text|begin_of_text|eot_id|end|assistant|user|sep|pad)\|>|\[\|endofturn\|\]"
    r"|<(?:start|end)_of_turn>|</?s>|<(?:bos|eos|pad)>|\[/INST\]|\[(?:EOS|BOS|PAD)\])"
)
_OPENING = re.compile(
    r"(?:\s*(?:<\|im_start\|>assistant(?=\n)|<\|start_header_id\|>assistant<\|end_header_id\|>|<start_of_turn>model(?=\n)"
    rf"|{_TOKEN}"
    r"|\[\|assistant\|\]|#{2,4} ?(?:Assistant|Response|Output|답변|응답|출력) ?:?[ \t]*(?=\n)|#{2,4} ?(?:Assistant"
    r"|Response|답변|응답) ?:"
    r"|(?:Assistant|어시스턴트|챗봇) ?:(?= )))+[ \t]*\n*",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?:\s*(?:<\|im_start\|>(?:user|assistant)|<\|start_header_id\|>(?:user|assistant)<\|end_header_id\|>"
    rf"|<start_of_turn>(?:user|model)|{_TOKEN}"
    r"|\[\|user\|\]|\[INST\]"
    r"|(?<=\n)#{2,4} ?(?:User|Human|Assistant|Instruction|Response|질문|명령어|답변|응답) ?:?))+\s*\Z",
    re.IGNORECASE,
)
_ANY_TOKEN = re.compile(
    rf"{_TOKEN}|\[INST\]|<\|[a-z_]+\|>|\[\|[a-z]+\|\]|^[^\S\n]*#{{2,4}} ?(?:User|Human|Assistant|Instruction|Response|명령어"
    rf"|응답) ?:?[ \t]*$"
    r"|^(?:User|Assistant|Human|사용자|어시스턴트|챗봇) ?:",
    re.MULTILINE | re.IGNORECASE,
)
_TAIL_ENDS = frozenset(":：]】#-=*")
_CLOSING_ENDS = (">", "]", ":", "user", "assistant", "model")
_HEADING_AT_END = re.compile(r"\n#{2,4} ?\w+\s*\Z")

_ASKED: dict[str, re.Pattern[str]] = {
    "full_width": re.compile(r"전각|반각|full-?width|유니코드|번역|중국어|일본어", re.IGNORECASE),
    "stray_markers": re.compile(
        r"따옴표|인용|명언|대사|대화|대본|문답|면접|인터뷰|퀴즈|FAQ|Q ?& ?A|형식|번역|문구|[\"“'‘\[]?답변[\]\"”'’]? ?:",
        re.IGNORECASE,
    ),
    "format_tokens": re.compile(r"토큰|템플릿|프롬프트|태그|HTML|ChatML|<\|", re.IGNORECASE),
    "particles": re.compile(r"맞춤법|띄어쓰기|문법|조사|틀린|오타|교정|고쳐|바르게|올바른"),
}
"""A question that matches asked for it: the repair leaves its answer alone."""


def nfc(text: str) -> str:
    """Conjoining jamo become syllables (macOS file names, some crawls): the same letters, one code point each."""
    if unicodedata.is_normalized("NFC", text):
        return text
    return _outside_code(text, lambda part: unicodedata.normalize("NFC", part))


def white_space(text: str) -> str:
    """`서울은\\u00a0 넓어요. \\n\\n\\n\\n한강도요.\\u200b` → `서울은 넓어요.\\n\\n한강도요.`

    One blank line at most, no space before a line break, no invisible character but where a script or an emoji is built
    with it. Indentation and tables keep their spaces.
    """
    neat = "  " not in text and " \n" not in text and "\t" not in text and "\n\n\n" not in text
    if neat and not text[:1].isspace() and not text[-1:].isspace() and not ODD.search(text):
        return text
    before = None
    while text != before:  # a line break put right can show that a line is indented code: two rounds, seldom three
        before = text
        keep_marks = not _MARKS.search(text) or bool(_NEEDS_MARKS.search(text))
        text = _outside_code(text, lambda part: _plain_space(part, keep_marks))  # noqa: B023
        columns = sum(1 for line in text.split("\n") if _GAPS.search(line)) > 1  # a table drawn with spaces
        text = _outside_code(text, lambda part: _one_space(part, columns)).lstrip("\n").rstrip()  # noqa: B023
    return text


def _plain_space(text: str, keep_marks: bool) -> str:
    text = _ODD_SPACE.sub(" ", _ODD_BREAK.sub("\n", text))
    return text if keep_marks else _LOST_JOINER.sub("", _DIRECTION.sub("", _NO_WIDTH.sub("", text)))


def _one_space(text: str, columns: bool) -> str:
    text = re.sub(r"(?<![ \t])[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text)
    return text if columns else _WIDE_GAP.sub(" ", text)


def full_width(text: str) -> str:
    """`ＡＢＣ마트는 １２시，월요일에` → `ABC마트는 12시, 월요일에`; a line with Han or kana keeps its own punctuation."""
    if not FULL_WIDTH.search(text):
        return text
    return _outside_code(text, lambda part: "\n".join(map(_half, part.split("\n"))))


def _half(line: str) -> str:
    if not FULL_WIDTH.search(line) or _CJK_LINE.search(line):
        return line
    line = _FULL_PAIR.sub(r"(\1)", line.translate(_TO_ASCII))
    line = _NEXT_TO_WORD.sub(lambda sign: _SIGNS[sign[0]], line)
    return _FULL_STOP.sub(_stop, line)


def _stop(match: re.Match[str]) -> str:
    """The mark with the space that a full-width one carries within itself; none inside 10：30 or at the end."""
    mark, more, space, after = match.groups()
    marks = _STOPS[mark] + "".join(_STOPS[each] for each in more)
    before = match.string[match.start() - 1]
    inside = before.isdigit() and after.isdigit() and mark in "：，"
    return marks + (" " if space or (after and not inside and re.match(r"[가-힣A-Za-z0-9(\"'“‘]", after)) else "")


def stray_markers(text: str) -> str:
    """Labels, quotation marks around the whole, and what was begun below: `답변: 서울이에요.` → `서울이에요.`; a dialogue (`A:
    어디야? …`) stays, and so does an answer of which nothing would remain."""
    if not _LABEL.match(text) and text.rstrip()[-1:] not in _TAIL_ENDS and text.lstrip()[:1] not in _QUOTES:
        return text  # as nearly all are
    before = None
    while text != before:
        before = text
        for without in (_without_label, _without_tail, _without_quotes):
            text = _or_before(without(text), text)
    return text


def format_tokens(text: str) -> str:
    """`서울이에요.<|im_end|>` → `서울이에요.`; `서울이에요.<|im_end|>\\n<|im_start|>user\\n그럼…` stays: invented turns."""
    opening = _OPENING.match(text)
    bare = text[opening.end() :] if opening else text
    closing = None
    if bare.rstrip().endswith(_CLOSING_ENDS) or _HEADING_AT_END.search(bare, max(0, len(bare) - 40)):
        closing = _CLOSING.search(bare, max(0, len(bare) - 400))
    bare = bare[: closing.start()] if closing else bare
    return text if bare == text or _ANY_TOKEN.search(bare) else _or_before(bare, text)


def _without_label(text: str) -> str:
    label = _LABEL.match(text)
    return text if not label or _SPEAKER.search(text, label.end()) else text[label.end() :]


def _without_tail(text: str) -> str:
    if text.rstrip()[-1:] not in _TAIL_ENDS:
        return text
    tail = _TAIL.search(text, max(0, len(text) - 1000))
    in_fence = len(_FENCE.findall(text)) % 2  # that was never closed
    return text[: tail.start()] if tail and not in_fence else text


def _without_quotes(text: str) -> str:
    """Two sentences and more in one pair of quotation marks; a single one may be the sentence that was asked for."""
    body = text.strip()
    close, inner = _QUOTES.get(body[:1]), body[1:-1]
    if close is None or len(body) < 3 or body[-1] != close or body[0] in inner or close in inner:
        return text
    return inner.strip() if _SENTENCE_INSIDE.search(inner) else text


def _or_before(after: str, before: str) -> str:
    """`after`, if it still says something."""
    return after if after == before or any(map(str.isalnum, after)) else before


def particles(text: str, faults: Sequence[Fault] | None = None) -> str:
    """`책를 읽으면 되요.` → `책을 읽으면 돼요.` `faults`: what `assess` found in this very text; Kiwi is asked only where one
    is of a particle."""
    if faults is not None and not any(fault.code == "wrong_particle" for fault in faults):
        return text
    for _ in range(3):  # a word put right can show that its neighbour is wrong
        wrong = wrong_particles(own_words(text))
        if not wrong:
            break
        for each in reversed(wrong):
            text = text[: each.start] + each.right + text[each.end :]
    return text


REPAIRS: dict[str, Callable[[str], str]] = {
    "nfc": nfc, "white_space": white_space, "full_width": full_width, "stray_markers": stray_markers,
    "format_tokens": format_tokens, "particles": particles, "personal_data": mask,
}  # fmt: skip
"""Name → repair, in the order in which they run."""

DEFAULT_REPAIRS = DataRecipe.repairs
MOST_WRONG_PARTICLES = 3
"""What `particles` is to put right in one answer: `Rules.wrong_particles` where it is on. An answer with more is bad Korean."""
AFTER_ASSESSMENT: tuple[str, ...] = ("particles",)
"""Run these when the filters have passed the row, with the faults that they found; the others before the filters."""
_ROUNDS = 5  # the last only looks; two do in nearly all changed texts
_EVERYWHERE = frozenset({"nfc", "white_space", "personal_data"})
"""Repairs of questions and system messages too; the others are for answers."""


def repair(
    messages: Sequence[Message], names: Sequence[str] = DEFAULT_REPAIRS, faults: Sequence[Sequence[Fault]] | None = None
) -> tuple[list[Message], tuple[str, ...]]:
    """The messages repaired, and the names of the repairs that changed something.

    `faults`: one list for each answer, as `assess` found them in these very messages.
    An answer `답변: 책를 읽으세요.` → `책을 읽으세요.`, `("stray_markers", "particles")`
    """
    repaired: list[Message] = []
    changed: set[str] = set()
    question, answers = "", 0
    wanted = [name for name in REPAIRS if name in names]
    everywhere = [name for name in wanted if name in _EVERYWHERE]
    for message in messages:
        text = message["content"]
        if is_trained(message):
            text = _repair_text(text, wanted, changed, question, faults[answers] if faults is not None else None)
            answers += 1
        else:
            text = _repair_text(text, everywhere, changed)
            question = text if message["role"] == "user" else question
        repaired.append(message if text == message["content"] else {**message, "content": text})
    return repaired, tuple(name for name in wanted if name in changed)


def _repair_text(
    text: str, names: Sequence[str], changed: set[str], question: str = "", faults: Sequence[Fault] | None = None
) -> str:
    """`text` with all of `names` done, again where one made room for another (답변: behind a quotation mark)."""
    for _ in range(_ROUNDS):
        before = text
        for name in names:
            after = particles(text, faults) if name == "particles" else REPAIRS[name](text)
            if after != text and not (name in _ASKED and _ASKED[name].search(question)):
                text = after
                changed.add(name)
                faults = None  # they belong to the text as it was
        if text == before:
            break
    return text


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    if "`" not in text and "~~~" not in text and "    " not in text and "\t" not in text:
        return change(text)
    parts = _CODE.split(text)  # prose and code in turn
    return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))
