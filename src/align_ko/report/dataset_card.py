"""README.md of the output folder: the dataset card, which tells `datasets` and the hub what is in it.

`datasets.load_dataset("data/quickstart/sft")` then gives train and eval, and leaves rejected.jsonl and the reports alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from align_ko.report.curation_markdown import code, escape, table
from align_ko.report.curation_tables import by_source, reason_counts, selection_line, summary, tables

MARK = "<!-- align_ko writes this file anew with the data, all but the part between the licence marks. -->"
LICENCE = ("<!-- licence: yours to fill in; kept when the file is written anew -->", "<!-- end of licence -->")

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LICENCE_KEYS = ("license", "license_name", "license_link")  # as the hub spells them


def card_for(folder: Path, facts: Mapping[str, Any]) -> tuple[str, str]:
    """(file name, text). A README.md that is not ours stays; the card is then dataset_card.md."""
    path = folder / "README.md"
    earlier = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if earlier and MARK not in earlier:
        return "dataset_card.md", dataset_card(facts, folder.resolve().name)
    return path.name, dataset_card(facts, folder.resolve().name, earlier)


def dataset_card(facts: Mapping[str, Any], name: str, earlier: str = "") -> str:
    """The card. `earlier`: the card it replaces, whose licence is kept."""
    rows = facts["rows"]
    splits = {split: f"{split}.jsonl" for split in ("train", "eval", "preferences") if rows[split]}
    return "\n\n".join(
        part
        for part in [
            _front_matter(sum(rows[split] for split in splits), splits, name, earlier),
            MARK,
            f"# {escape(name)}",
            "Korean conversations for supervised fine-tuning, chosen so that a native reader finds the answers natural.",
            summary(facts),
            "## Fields",
            table(
                ["field", "what it holds"],
                [
                    ["messages", "a list of {role, content}: system (optional), then user and assistant in turn"],
                    ["source", "the data set the row came from"],
                    ["group", ", ".join(row["group"] for row in facts["mixture"]["groups"])],
                    ["id", "hash of what is said; the split hangs on it, so a row keeps its side when others come or go"],
                    ["repairs", "names of the repairs that changed something in it; mostly empty"],
                ],
            ),
            _splits(rows),
            "## Sources and licence",
            _kept_licence(earlier) or _licence(facts),
            "## How it was made",
            _how(facts),
            *_tables(facts),
            "report.html shows rows to read, kept and dropped; rejected.jsonl holds every dropped row with its reason. "
            "Both show rows that fell for what is in them, personal data too: leave them out where the folder is published.",
        ]
        if part
    ) + "\n"  # fmt: skip


def size_category(rows: int) -> str:
    """The hub's word for the size.

    >>> size_category(950), size_category(1000), size_category(190_000)
    ('n<1K', '1K<n<10K', '100K<n<1M')
    """
    return next((name for limit, name in _SIZES if rows < limit), "10M<n<100M")


def _splits(rows: Mapping[str, int]) -> str:
    said = f"Splits: train {rows['train']:,} rows, eval {rows['eval']:,} rows (for eval loss)"
    apart = f", preferences {rows['preferences']:,} rows (questions and answers to make preference pairs of)"
    return said + apart * bool(rows["preferences"]) + "."


def _front_matter(rows: int, splits: Mapping[str, str], name: str, earlier: str) -> str:
    about: dict[str, Any] = {
        "pretty_name": name,
        "language": ["ko"],
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows)],
        "tags": ["conversational", "sft", "korean", "align-ko"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        ],
    }
    licence = {key: value for key, value in _read_front_matter(earlier).items() if key in _LICENCE_KEYS}
    first = (
        yaml.safe_dump(licence, allow_unicode=True, sort_keys=False)
        if licence.get("license", "unknown") != "unknown"
        else 'license: unknown  # fill in: see "Sources and licence" below\n'
    )
    return f"---\n{first}{yaml.safe_dump(about, allow_unicode=True, sort_keys=False)}---"


def _read_front_matter(card: str) -> dict[str, Any]:
    if not card.startswith("---\n") or "\n---" not in card[4:]:
        return {}
    try:
        found = yaml.safe_load(card[4 : card.index("\n---", 4)])
    except yaml.YAMLError:  # edited by hand, and wrong
        return {}
    return found if isinstance(found, dict) else {}


def _kept_licence(earlier: str) -> str:
    start, end = earlier.find(LICENCE[0]), earlier.find(LICENCE[1])
    return earlier[start : end + len(LICENCE[1])] if 0 <= start < end else ""


def _licence(facts: Mapping[str, Any]) -> str:
    taken = [[source, row["taken"], "FILL IN"] for source, row in by_source(facts)[0].items() if row["taken"]]
    return "\n\n".join(
        [
            LICENCE[0],
            "**Not filled in yet.** Each source comes with its own terms, and this folder may be passed on only under terms "
            "that all of them allow. Look each one up, fill in the table, and set `license:` at the top of this file.",
            table(["source", "rows", "licence"], taken),
            LICENCE[1],
        ]
    )


def _how(facts: Mapping[str, Any]) -> str:
    command = "scripts/build_sft_data.py of align_ko"
    if facts.get("recipe"):
        command = f"{code('python scripts/build_sft_data.py ' + str(facts['recipe']))} (align_ko)"
    lines = [
        f"Made by {command}; manifest.json holds the whole recipe, the command, the versions and the hashes of the files read.",
        f"Filters in the order in which they ran: {', '.join(facts['filters'])}.",
        escape(facts["mixture"]["decision"]),
        selection_line(facts),
    ]
    return "\n\n".join(filter(None, lines))


def _tables(facts: Mapping[str, Any]) -> list[str]:
    """The funnel, the reasons in one column, the mixture, and what was changed in the rows."""
    shown = ("Rows left after each stage", "Mixture", "Near-duplicates dropped", "Repaired rows", "Personal data masked")
    found = {sheet.title: sheet for sheet in tables(facts) if sheet.title in shown}
    parts = [f"### {title}\n\n{table(sheet.header, sheet.rows)}" for title, sheet in found.items()]
    reasons = [[reason, count] for reason, count in reason_counts(facts).items()]
    return [*parts[:1], "### Why rows were dropped\n\n" + table(["reason", "rows"], reasons), *parts[1:]]
