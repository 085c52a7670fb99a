"""What a run found of the key's faulty rows: per kind the share dropped, dropped for the right reason, and clean rows lost."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation_bench.faults import COPIES, SHARES
from measure_curation import RIGHT_REASONS

DUPLICATE_REASONS = {"duplicate", "near_duplicate"}
REASONS: dict[str, set[str]] = {
    **RIGHT_REASONS,
    "exact_duplicate": DUPLICATE_REASONS,
    "near_duplicate": DUPLICATE_REASONS,
    "personal_data": {"personal_data", "masked"},
    "evaluation_overlap": {"evaluation_overlap", *DUPLICATE_REASONS},  # 60 prompts in many rows: the later ones are copies
}
START = 20  # characters of a question by which rows are first looked up


@dataclass(frozen=True)
class Found:
    """One line of the table; shares of `rows`."""

    kind: str
    rows: int
    dropped: float
    right: float
    reasons: str


def rejected_rows(file: Path) -> dict[int, str]:
    """Row number → reason; rows stand on the line after their number."""
    with file.open(encoding="utf-8") as lines:
        return {row["line"] - 1: row["reason"] for row in map(json.loads, lines)}


def fate_of_personal_data(
    key: Mapping[int, dict[str, Any]], reasons: Mapping[int, str], outputs: Iterable[Path]
) -> tuple[set[int], set[int]]:
    """(rows whose data was masked, rows whose fate cannot be seen because the mixture did not take them).

    A row that was not dropped is looked for in what was written, by its question: without the data it was masked.
    """
    waiting: dict[str, list[int]] = defaultdict(list)
    for number, entry in key.items():
        if "planted" in entry and number not in reasons:
            waiting[entry["opening"][:START]].append(number)
    masked: set[int] = set()
    seen: set[int] = set()
    for file in outputs:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                asked = next(message["content"] for message in json.loads(line)["messages"] if message["role"] == "user")
                for number in waiting.get(asked[:START], ()):
                    if asked.startswith(key[number]["opening"]):
                        seen.add(number)
                        if key[number]["planted"] not in line:
                            masked.add(number)
    return masked, {number for numbers in waiting.values() for number in numbers} - seen


def score(reasons: Mapping[int, str], key: Mapping[int, dict[str, Any]], rows: int) -> list[Found]:
    """`reasons`: row number → why it was dropped."""
    table = []
    for kind in [*SHARES, "all faulty"]:
        entries = [entry for entry in key.values() if kind in (entry["kind"], "all faulty")]
        given = [(entry["kind"], reason_of(entry, reasons)) for entry in entries]
        right = sum(reason in REASONS[name] for name, reason in given)
        table.append(_line(kind, len(entries), Counter(reason for _, reason in given if reason), right))
    originals = {entry["of"] for number, entry in key.items() if "of" in entry and number not in reasons}
    lost = {number: reason for number, reason in reasons.items() if number not in key}
    clean = Counter(reason for number, reason in lost.items() if number not in originals or reason not in DUPLICATE_REASONS)
    table.append(_line("clean", rows - len(key), clean, 0))
    return table


def reason_of(entry: Mapping[str, Any], reasons: Mapping[int, str]) -> str:
    """Why the row fell, or "". Of a row and its copy either may fall: the better-scored one stays."""
    reason = reasons.get(entry["row"], "")
    if not reason and entry["kind"] in COPIES and reasons.get(entry["of"]) in DUPLICATE_REASONS:
        return reasons[entry["of"]]
    return reason


def _line(kind: str, rows: int, given: Counter[str], right: int) -> Found:
    names = ", ".join(f"{reason} {count:,}" for reason, count in given.most_common(4))
    return Found(kind, rows, given.total() / max(rows, 1), right / max(rows, 1), names)
