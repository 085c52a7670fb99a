"""How numbers become text: the measures of an evaluation, and tables in Markdown and in the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from align_ko.errors import visible

if TYPE_CHECKING:
    from align_ko.evaluation.scores import Verdicts

NOT_JUDGED = "not judged"
MAX_NAME = 60  # characters of a source's name that are shown
_MARKDOWN = re.compile(r"[\\`*<>\[\]~$|&]|(?<![^\W_])_|_(?![^\W_])")  # not the _ inside a name
_NUMBER = re.compile(r"\**[\d–-]")


def clip(name: str) -> str:
    """A name on one line, cut at MAX_NAME characters."""
    line = " ".join(name.split())
    return line if len(line) <= MAX_NAME else line[: MAX_NAME - 1] + "…"


def escape_markdown(text: str) -> str:
    """`text` on one line, with nothing in it markup; `|` is escaped too, for tables."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(visible(text).split()))


def code_span(text: str) -> str:
    """`text` as a code span, in which nothing can be escaped: a backtick becomes an apostrophe."""
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


def terminal_table(
    title: str, columns: Sequence[str] = (), padding: tuple[int, int, int, int] | int = 0, names: int = 1
) -> Table:
    """An empty table, the first `names` columns aligned to the left, those of numbers to the right. With padding 0 its box
    puts one space between columns."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=padding, show_edge=False)
    for place, name in enumerate(columns):
        table.add_column(escape(name), justify="left" if place < names else "right", overflow="fold")
    return table


def say(console: Console, text: str) -> None:
    """A line as it is: neither broken nor coloured."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


@dataclass(frozen=True)
class Measure:
    key: str  # in scores.json
    label: str
    narrow: str  # for a terminal of 80 columns
    korean: str
    note: str  # below the Korean label
    kind: Literal["share", "count", "index", "score", "loss", "verdicts"]
    page_only: bool = False

    def text(self, result: Mapping[str, object], digits: int = 0) -> str:
        """Shares in %, losses in nats; `digits`: further decimals of both. `-` where there is no value, for a judge of content
        `not judged`."""
        value = result.get(self.key)
        if self.kind == "verdicts":
            return verdicts_text(value) if isinstance(value, Mapping) else NOT_JUDGED
        if not isinstance(value, int | float):
            return "-"
        decimals = {"share": digits, "count": 0, "index": 3, "score": 1, "loss": 2 + digits, "verdicts": 0}[self.kind]
        return f"{100 * value if self.kind == 'share' else value:,.{decimals}f}"


MEASURES = (
    Measure("natural", "natural in form (95 %)", "natural\nin form\n(95 %)", "형식이 자연스러움", "95% 구간", "share"),
    Measure("relevant", "relevant", "rele-\nvant", "관련", "relevant", "share"),
    Measure("llm", "llm would sign (95 %)", "", "LLM 판정", "내보낼 답변", "verdicts"),
    Measure("reader", "reader would sign (95 %)", "", "독자 판정", "내보낼 답변", "verdicts"),
    Measure("loops", "loops", "loops", "반복", "", "share"),
    Measure("filler", "filler", "fil-\nler", "빈말", "", "share"),
    Measure("unfinished", "unfinished", "un-\nfin-\nished", "미완결", "", "share"),
    Measure("finished", "finished", "", "스스로 멈춤", "", "share", page_only=True),
    Measure("median_characters", "chars", "chars", "글자 수", "중앙값", "count"),
    Measure("median_tokens", "tokens", "", "토큰 수", "중앙값", "count", page_only=True),
    Measure("distinct", "distinct", "dis-\ntinct", "구별", "distinct", "share"),
    Measure("collapse", "collapse", "col-\nlapse", "쏠림", "collapse", "index"),
    Measure("chrf", "chrF", "chrF", "chrF", "", "score"),
    Measure("reference_nll", "NLL", "NLL", "NLL", "", "loss"),
)
TABLE_MEASURES = tuple(measure for measure in MEASURES if not measure.page_only)
MEASURE_LABELS = tuple(measure.label for measure in TABLE_MEASURES)


def measure_cells(result: Mapping[str, object], digits: int = 0, with_verdicts: bool = True) -> list[str]:
    """The measures of a table as text, in the order of MEASURE_LABELS."""
    texts = [measure.text(result, digits) for measure in TABLE_MEASURES if with_verdicts or measure.kind != "verdicts"]
    return [f"{texts[0]}{interval(result)}", *texts[1:]]


def verdicts_text(verdicts: Mapping[str, float | None]) -> str:
    """`12 (5-24) of 60, 8 split`: in %, the share that the judge would sign, and where its two readings differ."""
    split = verdicts["split"]
    return f"{signed_text(verdicts)} of {verdicts['judged']}" + (f", {100 * split:.0f} split" if split is not None else "")


def signed_text(verdicts: Mapping[str, float | None] | Verdicts) -> str:
    """`12 (5-24)`"""
    return share_text(verdicts["signed"] or 0, verdicts["signed_low"] or 0, verdicts["signed_high"] or 0)


def share_text(share: float, low: float, high: float) -> str:
    """A share and its interval, in %: `12 (5-24)`."""
    return f"{100 * share:.0f} ({100 * low:.0f}-{100 * high:.0f})"


def verdict_lines(results: Iterable[tuple[str, Mapping[str, object]]]) -> list[str]:
    """For a terminal too narrow for these columns: what each judge of content says of the named results.

    `llm would sign, in %: sft 5 (1-14) of 60, 8 split; not judged: base`, `reader: not judged`
    """
    named, lines = list(results), []
    for measure in (measure for measure in TABLE_MEASURES if measure.kind == "verdicts"):
        said = [f"{name} {measure.text(result)}" for name, result in named if result.get(measure.key)]
        others = ", ".join(name for name, result in named if not result.get(measure.key))
        listed = "; ".join([*said, *([f"{NOT_JUDGED}: {others}"] if others else [])])
        lines.append(f"{measure.key} would sign, in %: {listed}" if said else f"{measure.key}: {NOT_JUDGED}")
    return lines


def interval(result: Mapping[str, object]) -> str:
    """` (67-89)`: the 95 % interval of the natural share in %; "" for a mean of several results."""
    low, high = result.get("natural_low"), result.get("natural_high")
    return f" ({100 * low:.0f}-{100 * high:.0f})" if isinstance(low, float) and isinstance(high, float) else ""


def measures_table(title: str, *columns: tuple[str, int]) -> Table:
    """An empty table for the terminal: `columns` (name, least width), then the measures, without verdicts on content."""
    table = terminal_table(title)
    for name, width in columns:
        table.add_column(name, overflow="fold", min_width=width)
    for measure in TABLE_MEASURES:
        if measure.kind == "verdicts":
            continue
        table.add_column(measure.narrow, justify="right", no_wrap=True)
    return table


def short(setting: str) -> str:
    """`sampling_cool` → `cool`."""
    return setting.removeprefix("sampling_")
