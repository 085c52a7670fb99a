"""Which parts of an answer are the writer's own sentences: code, quotations, headings and tables are not.

Every function keeps character offsets, so a span found here is a span in the answer itself.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Blanked, never cut out: offsets must survive.
_FENCE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_NOT_NEWLINE = re.compile(r"[^\n]")
_INLINE_CODE = re.compile(r"`[^`\n]+`")
_QUOTE = re.compile(
    r"“[^”\n]{1,400}”|‘[^’\n]{1,400}’|「[^」\n]{1,400}」|『[^』\n]{1,400}』|«[^»\n]{1,400}»"
    # every alternative opens with its sign, looking back only after it: so re skips from sign to sign
    r"|\"[^\"\n]{1,400}\"|'(?<!\w')(?!\))[^'\n]{1,400}'(?![a-zA-Z])"
)
MARKER = re.compile(
    r"[ \t\u2003\u00a0]*(?:(?:[-*•·▪◦○●■□▶►→✓✔–—∴⇒※☞]|=>)+[ \t]+|\(?(?:\d{1,3}|[a-zA-Z가-하])[.)][ \t]+|[①-⑳][ "
    r"\t]*|\d+️?⃣[ \t]*)"
)
_HEADING = re.compile(r"[ \t]*(?:#{1,6}[ \t]|={3,}|-{3,}|\*{3,}|\[[^\]]*\][ \t]*$|<[^>]*>[ \t]*$|【[^】]*】[ \t]*$)")
_BOLD_LINE = re.compile(r"[ \t]*\*\*[^*\n]+\*\*[ \t]*:?[ \t]*$")
# A stop between two digits ends nothing (3.5). A row of stops is tried from its first one only.
_END = re.compile(
    r"[.!?…。~](?<![.!?…。~].)(?!(?<=\d\.)\d|(?<=[A-Za-z]\.)[A-Z][a-z])[.!?…。~]*[\"'”’)\]*_]*(?=\s|$|[가-힣A-Z(])"
)


class Span(NamedTuple):
    start: int
    end: int


class Sentence(NamedTuple):
    """`kind` is prose, item (a list item), heading or table. `text` has code and quotations blanked."""

    start: int
    end: int
    text: str
    kind: str


def blank(text: str, *patterns: re.Pattern[str]) -> str:
    """Replace matches by spaces of equal length, newlines kept."""
    for pattern in patterns:
        text = pattern.sub(_spaces, text)
    return text


def _spaces(match: re.Match[str]) -> str:
    said = match.group()
    return _NOT_NEWLINE.sub(" ", said) if "\n" in said else " " * len(said)


CODE = "\x01"


def without_code(text: str, *, sign: bool = False) -> str:
    """`실행은 \\`print()\\` 입니다` → `실행은           입니다` (same length); `sign` marks where code inside a line was."""
    if "`" not in text and "~~~" not in text:
        return text
    bare = blank(text, _FENCE)
    return _INLINE_CODE.sub(lambda code: CODE + " " * (len(code[0]) - 1), bare) if sign else blank(bare, _INLINE_CODE)


def without_blocks(text: str) -> str:
    """Blocks of code blanked, code inside a line kept."""
    return blank(text, _FENCE) if "```" in text or "~~~" in text else text


def own_words(text: str) -> str:
    """Code and quotations blanked: `그는 "가자"라고 했습니다` → `그는     라고 했습니다`."""
    return blank(without_code(text), _QUOTE)


def sentences(text: str, *, masked: str | None = None) -> list[Sentence]:
    """Split into sentences with offsets; a line is never joined with the next.

    `안녕하세요. 반가워요!` → `안녕하세요.` and `반가워요!`
    """
    masked = own_words(text) if masked is None else masked
    found: list[Sentence] = []
    position = 0
    for line in masked.split("\n"):
        begin, position = position, position + len(line) + 1
        if not line.strip():
            continue
        if ("|" in line and (line.lstrip()[0] == "|" or line.count("|") >= 2)) or ("\t" in line and "\t" in line.strip()):
            kind = "table"
        elif line.lstrip(" \t")[0] in "#=-*[<【" and (_HEADING.match(line) or _BOLD_LINE.match(line)):
            kind = "heading"
        else:
            kind = "prose"
        offset = 0
        if kind == "prose" and (marker := MARKER.match(line)):
            kind, offset = "item", marker.end()
        while offset < len(line):
            end = _END.search(line, offset)
            stop = end.end() if end else len(line)
            end_at = offset + len(line[offset:stop].rstrip())
            if end_at > offset:
                # A sentence that opens with a quotation starts there, though the quotation is blanked.
                said = text[begin + offset : begin + end_at]
                start_at = offset + len(said) - len(said.lstrip())
                found.append(Sentence(begin + start_at, begin + end_at, line[start_at:end_at], kind))
            offset = stop
    return found
