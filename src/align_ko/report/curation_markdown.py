"""report.md: every table, and the rows to read. What came from data is escaped, so that it shows as it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from align_ko.report.curation_rows import (
    MAX_DETAIL,
    Part,
    differences,
    messages_of,
    offending,
    raw_text,
    same_side,
    show_white_space,
    visible,
)
from align_ko.report.curation_tables import cell, clip, selection_line, summary, tables

SHOWN = 1200
"""Characters of one message that are shown."""

_SPECIAL = re.compile(r"[\\`*<>\[\]~$|&]|(?<![^\W_])_|_(?![^\W_])")  # not the _ inside a name


def to_markdown(facts: Mapping[str, Any]) -> str:
    """The whole report, with examples."""
    parts = ["# Curation report", summary(facts)]
    for sheet in tables(facts):
        parts += [f"## {escape(sheet.title)}", table(sheet.header, sheet.rows)]
        if sheet.title == "Mixture":
            parts += [line for line in (escape(facts["mixture"]["decision"]), selection_line(facts)) if line]
    parts.append(f"Filters in the order in which they ran: {', '.join(facts['filters'])}.")
    parts += _repairs(facts) + _near_duplicates(facts)
    parts.append(f"## {len(facts['kept_examples'])} kept rows, drawn at random")
    for row in facts["kept_examples"]:
        whole = [[Part(message["content"], False)] for message in row["messages"]]
        parts.append(f"{code(row['id'])} {escape(clip(row['source']))}, {escape(row['group'])}")
        parts.append(_conversation(row["messages"], whole))
    parts.append("## Dropped rows, a few per reason")
    for reason, rows in facts["dropped_examples"].items():
        parts.append(f"### {escape(reason)}")
        for row in rows:
            parts.append(f"{escape(row['file'])}:{row['line']}: {escape(row['detail'][:MAX_DETAIL])}")
            messages = messages_of(row["row"])
            shown = _conversation(messages, offending(reason, row["detail"], messages))
            parts.append(shown or f"> {escape(raw_text(row['row'])[:SHOWN]) or '(nothing)'}")
    return "\n\n".join(parts) + "\n"


def _repairs(facts: Mapping[str, Any]) -> list[str]:
    parts = []
    for row in facts.get("repair_examples") or ():
        before, after = map(show_white_space, differences(row["before"][:SHOWN], row["after"][:SHOWN]))
        parts.append(f"- {escape(row['repair'])}\n  - {_marked(before)}\n  - {_marked(after)}")
    return ["## Repaired rows, before and after", "\n".join(parts)] if parts else []


def _near_duplicates(facts: Mapping[str, Any]) -> list[str]:
    parts = []
    for pair in (facts.get("near_duplicates") or {}).get("examples") or ():
        parts.append(f"Alike in the {escape(str(pair['side']))}, {pair['similarity']:.2f}. The first was kept:")
        kept, dropped = same_side(pair)
        parts.append(_conversation(messages_of(pair["kept"]), kept))
        parts.append(_conversation(messages_of(pair["dropped"]), dropped))
    return ["## Near-duplicates, what differs in bold", *parts] if parts else []


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, columns of numbers to the right."""
    text = [any(not cell(row[place])[:1].isdigit() for row in rows) for place in range(len(header))]
    lines = [f"| {' | '.join(map(escape, header))} |", "|" + "|".join("---" if left else "---:" for left in text) + "|"]
    lines += [f"| {' | '.join(escape(cell(value)) for value in row)} |" for row in rows]
    return "\n".join(lines)


def escape(text: str) -> str:
    """`text` on one line, nothing in it markup. A `|` too, for tables.

    >>> escape("a|b <b> 2*3")
    'a\\\\|b \\\\<b\\\\> 2\\\\*3'
    """
    return _SPECIAL.sub(r"\\\g<0>", " ".join(visible(text).split()))


def code(text: str) -> str:
    """`text` as a code span, in which nothing can be escaped.

    >>> code("a `b`")
    "`a 'b'`"
    """
    return f"`{' '.join(visible(text).split()).replace('`', chr(39))}`"


def _conversation(messages: Sequence[Mapping[str, str]], parts: Sequence[Sequence[Part]]) -> str:
    """A quote block, one line per message."""
    return "\n".join(f"> **{escape(m['role'])}** {_marked(p)}  " for m, p in zip(messages, parts, strict=True))


def _marked(parts: Sequence[Part]) -> str:
    """What is marked in bold (by tag: `**[INST]**는` would not close), cut at SHOWN characters."""
    text, left = "", SHOWN
    for part in parts:
        piece = part.text[: max(left, 0)]
        left -= len(part.text)
        blank = [" " if piece[place:place + 1].isspace() else "" for place in (0, len(piece) - 1)]  # fmt: skip
        shown = escape(piece)
        text += blank[0] + (f"<b>{shown}</b>" if part.marked and shown else shown) + blank[1]
    return text + (f" … ({-left:,} more characters)" if left < 0 else "")
