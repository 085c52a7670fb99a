"""An HTML page as the tests of the reports read it."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser


def in_language(page: str, language: str = "ko") -> str:
    """The page as a reader of one language sees it, without script and style."""
    other = {"ko": "en", "en": "ko"}[language]
    page = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.S)
    page = re.sub(rf'<(span|small|code) class="{other}"[^>]*>.*?</\1>', "", page, flags=re.S)
    return re.sub(rf'<span class="{language}"[^>]*>(.*?)</span>', r"\1", page, flags=re.S)


def english_sentences(page: str) -> list[str]:
    """What a reader of the Korean page sees of English: three words in a row or more, but for code and texts of the data."""
    page = re.sub(r'<(code|pre|h3 lang="ko"|div class="text").*?</(code|pre|h3|div)>', "", in_language(page), flags=re.S)
    shown = re.findall(r' (?:title|placeholder|aria-label|alt)="([^"]*)"', page)
    shown += re.sub(r"<[^>]+>", "\n", re.sub(r"</?[bi]( [^>]*)?>", "", page)).split("\n")
    return [text.strip() for text in shown if re.search(r"[A-Za-z'’]+([,;:.]? +[A-Za-z'’]+){2}", unescape(text))]


class Page(HTMLParser):
    """Checks nesting, and collects text by tag."""

    VOID = frozenset({"meta", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.marks: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "mark":
            assert "mark" not in self.open
            self.marks.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "mark" in self.open:
            self.marks[-1] += data
