"""README.md of the output folder: the dataset card, which tells `datasets` and the hub what the folder contains.

`datasets.load_dataset("data/quickstart/sft")` then gives train and eval, and ignores rejected.jsonl and the reports.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from align_ko.curation.facts import CurationFacts
from align_ko.report.curation_tables import by_source, selection_line, summary, tables
from align_ko.report.page import render

MARK = "<!-- align_ko writes this file anew with the data, all but the part between the licence marks. -->"
LICENCE = ("<!-- licence: yours to fill in; kept when the file is written anew -->", "<!-- end of licence -->")

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LICENCE_KEYS = ("license", "license_name", "license_link")  # as the hub spells them


def card_for(folder: Path, facts: CurationFacts) -> tuple[str, str]:
    """(file name, text). A README.md that is not ours stays; the card is then dataset_card.md."""
    path, name = folder / "README.md", folder.resolve().name
    earlier = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    theirs = bool(earlier) and MARK not in earlier
    text = dataset_card(facts, name, "" if theirs else earlier)
    return "dataset_card.md" if theirs else path.name, text


def dataset_card(facts: CurationFacts, name: str, earlier: str = "") -> str:
    """The card. `earlier`: the card it replaces, whose licence is kept."""
    start, end = earlier.find(LICENCE[0]), earlier.find(LICENCE[1])
    return render(
        "dataset_card.md.jinja",
        facts=facts,
        name=name,
        mark=MARK,
        summary=summary(facts),
        selection=selection_line(facts),
        front_matter=_front_matter(facts, name, earlier),
        licence=earlier[start : end + len(LICENCE[1])] if 0 <= start < end else "",
        licence_marks=LICENCE,
        sources=[[source, row["taken"], "FILL IN"] for source, row in by_source(facts)[0].items() if row["taken"]],
        sheets=tables(facts),
    )


def size_category(rows: int) -> str:
    """The hub's word for the size.

    >>> size_category(950), size_category(1000), size_category(190_000)
    ('n<1K', '1K<n<10K', '100K<n<1M')
    """
    return next((name for limit, name in _SIZES if rows < limit), "10M<n<100M")


def _front_matter(facts: CurationFacts, name: str, earlier: str) -> str:
    rows = {"train": facts["rows"]["train"], "eval": facts["rows"]["eval"], "preferences": facts["rows"]["preferences"]}
    files = [{"split": split, "path": f"{split}.jsonl"} for split, count in rows.items() if count]
    about = {
        "pretty_name": name,
        "language": ["ko"],
        "task_categories": ["text-generation"],
        "size_categories": [size_category(sum(rows.values()))],
        "tags": ["conversational", "sft", "korean", "align-ko"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    licence = {key: value for key, value in _read_front_matter(earlier).items() if key in _LICENCE_KEYS}
    first = (
        yaml.safe_dump(licence, allow_unicode=True, sort_keys=False)
        if licence.get("license", "unknown") != "unknown"
        else 'license: unknown  # fill in: see "Sources and licence" below\n'
    )
    return first + yaml.safe_dump(about, allow_unicode=True, sort_keys=False)


def _read_front_matter(card: str) -> dict[str, object]:
    if not card.startswith("---\n") or "\n---" not in card[4:]:
        return {}
    try:
        front = yaml.safe_load(card[4 : card.index("\n---", 4)])
    except yaml.YAMLError:  # edited by hand, and wrong
        return {}
    return front if isinstance(front, dict) else {}
