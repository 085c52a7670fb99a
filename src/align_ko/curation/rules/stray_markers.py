"""Markers left at the ends of an answer: labels, quotation marks around the whole, tokens of a chat format.

| function        | before                                        | after                              |
|-----------------|-----------------------------------------------|------------------------------------|
| `stray_markers` | 답변: 서울이에요.                              | 서울이에요.                        |
| `stray_markers` | **[답변]** 서울이에요.                         | 서울이에요.                        |
| `stray_markers` | "서울이에요. 한강이 흐르죠."                   | 서울이에요. 한강이 흐르죠.         |
| `stray_markers` | 서울이에요.\\n\\n---                             | 서울이에요.                        |
| `stray_markers` | 서울이에요.\\n질문:                             | 서울이에요.                        |
| `format_tokens` | <\\|im_start\\|>assistant\\n서울이에요.<\\|im_end\\|> | 서울이에요.                        |
| `format_tokens` | ### Assistant:\\n서울이에요.</s>                | 서울이에요.                        |

Both leave an answer as it is where the same sign stands anywhere else in it (A: … B: … is a dialogue, a token in the middle
means invented further turns), or where nothing would remain.
"""

from __future__ import annotations

import re

_NAME = r"(?:답변|대답|응답|A|Answer|Response)"
_LABEL = re.compile(
    rf"(?:\s*(?:\*\*{_NAME} ?[:：]\*\*|\*\*{_NAME}\*\* ?[:：]|\*\*\[{_NAME}\]\*\*[:：]?|[\[<【]{_NAME}[\]>】] ?[:：]?"
    rf"|{_NAME} ?[:：])(?=\s))+[ \t]*\n*",
    re.IGNORECASE,
)
_SPEAKER = re.compile(
    r"^\W{0,4}(?:[A-Za-z]|Q\d*|[가-힣]{1,5}|Question|Answer|Response)\W{0,3}[:：]", re.MULTILINE | re.IGNORECASE
)
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
    rf"{_TOKEN}|\[INST\]|<\|[a-z_]+\|>|\[\|[a-z]+\|\]|^\s*#{{2,4}} ?(?:User|Human|Assistant|Instruction|Response|명령어"
    rf"|응답) ?:?[ \t]*$"
    r"|^(?:User|Assistant|Human|사용자|어시스턴트|챗봇) ?:",
    re.MULTILINE | re.IGNORECASE,
)
_TAIL_ENDS = frozenset(":：]】#-=*")
_CLOSING_ENDS = (">", "]", ":", "user", "assistant", "model")
_HEADING_AT_END = re.compile(r"\n#{2,4} ?\w+\s*\Z")


def stray_markers(text: str) -> str:
    """`답변: 서울이에요.` → `서울이에요.`; `A: 어디야? …\\nB: 집이야.` stays, a dialogue."""
    if not _LABEL.match(text) and text.rstrip()[-1:] not in _TAIL_ENDS and text.lstrip()[:1] not in _QUOTES:
        return text  # nearly all are clean: none of the three below would find where to begin
    before = None
    while text != before:
        before = text
        text = _or_before(_without_label(text), text)
        text = _or_before(_without_tail(text), text)
        text = _or_before(_without_quotes(text), text)
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
    if not label or _SPEAKER.search(text, label.end()):
        return text
    return text[label.end() :]


def _without_tail(text: str) -> str:
    if text.rstrip()[-1:] not in _TAIL_ENDS:
        return text
    tail = _TAIL.search(text, max(0, len(text) - 1000))
    if not tail or len(_FENCE.findall(text)) % 2:  # inside a fence that was never closed
        return text
    return text[: tail.start()]


def _without_quotes(text: str) -> str:
    """Two sentences and more in one pair of quotation marks; a single one may be the sentence that was asked for."""
    body = text.strip()
    close = _QUOTES.get(body[:1])
    if close is None or len(body) < 3 or body[-1] != close:
        return text
    inner = body[1:-1]
    if body[0] in inner or close in inner or not _SENTENCE_INSIDE.search(inner):
        return text
    return inner.strip()


def _or_before(after: str, before: str) -> str:
    """`after`, if it still says something."""
    return after if after == before or any(map(str.isalnum, after)) else before
