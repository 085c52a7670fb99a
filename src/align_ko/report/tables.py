"""How numbers become text: the measures of an evaluation, and tables in Markdown and in the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKDOWN = re.compile(r"[\\`*<>\[\]~$|&]|(?<![^\W_])_|_(?![^\W_])")  # not the _ inside a name
_NUMBER = re.compile(r"[\d–-]")


def visible(text: str) -> str:
    """Control and zero-width characters by name, so that a reader sees what the filter saw.

    >>> visible("가\\u200b나\\x00")
    '가[U+200B]나[U+0000]'
    """
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", writable(text))


def writable(text: str) -> str:
    """Half a surrogate pair cannot be written as UTF-8.

    >>> writable("가" + chr(0xD83D))
    '가\ufffd'
    """
    return _SURROGATE.sub("\ufffd", text)


def escape_markdown(text: str) -> str:
    """`text` on one line, with nothing in it markup; `|` is escaped too, for tables.

    >>> escape_markdown("a|b <b> 2*3")
    'a\\\\|b \\\\<b\\\\> 2\\\\*3'
    """
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(visible(text).split()))


def code_span(text: str) -> str:
    """`text` as a code span, in which nothing can be escaped.

    >>> code_span("a `b`")
    "`a 'b'`"
    """
    return f"`{' '.join(visible(text).split()).replace('`', chr(39))}`"


def escape_bars(text: str) -> str:
    """For cells that are Markdown already."""
    return text.replace("|", "\\|")


def cell(value: object) -> str:
    """12345 → 12,345; text stays."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], escape: Callable[[str], str] = escape_markdown
) -> str:
    """A Markdown table, columns of numbers aligned to the right."""
    texts = [[cell(value) for value in row] for row in rows]
    numeric = [bool(texts) and all(_NUMBER.match(row[place]) for row in texts) for place in range(len(header))]
    lines = [map(escape, header), ("---:" if right else "---" for right in numeric), *(map(escape, row) for row in texts)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def terminal_table(title: str, padding: tuple[int, int, int, int] | int = 0) -> Table:
    """An empty table in the style of all."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=padding, show_edge=False)


def short(setting: str) -> str:
    """`sampling_cool` → `cool`."""
    return setting.removeprefix("sampling_")
