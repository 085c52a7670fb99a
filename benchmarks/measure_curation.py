"""Curate clean and spoilt rows and compare what was dropped with the key of what was done to them.

    python recipes/quickstart/data/spoil.py
    python benchmarks/measure_curation.py recipes/quickstart/data.yaml --output_dir data/quickstart/measured

Takes a data recipe whose sources hold both, and reads the key beside the spoilt folder (spoilt.key.jsonl). Prints what
share of each kind of damage was dropped, and for the right reason, and what share of the clean rows was lost.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from align_ko.curation.curate import curate
from align_ko.errors import UserError, run_script
from align_ko.recipe import DataRecipe, check_inputs, load_recipe
from align_ko.records import read_jsonl, write_json

RIGHT_REASONS = {
    "mixed_speech_level": {"speech_level"},
    "too_short": {"too_short"},
    "rambling": {"filler", "repetition", "too_long"},
    "repetition": {"repetition"},
    "strange_characters": {"strange_characters"},
    "chat_slang": {"chat_slang"},
    "template_leak": {"template_leak"},
    "cut_off": {"unfinished"},
    "broken_row": {"broken_row", "roles", "empty"},
}


def main() -> None:
    recipe = load_recipe(DataRecipe, sys.argv[1:], description=__doc__)
    check_inputs(recipe)
    folders = {Path(source.path).parent for source in recipe.sources.values()}
    keys = {folder: folder.with_name(folder.name + ".key.jsonl") for folder in folders}
    spoilt = {folder: key for folder, key in keys.items() if key.is_file()}
    if not spoilt:
        raise UserError("no key of spoilt rows", expected=" or ".join(map(str, keys.values())))
    facts = curate(recipe, Console(quiet=True))

    key = {(str(folder / row["file"]), row["line"]): row for folder in spoilt for row in read_jsonl(spoilt[folder])}
    rejected = read_jsonl(Path(recipe.output_dir) / "rejected.jsonl")
    dropped = {(row["file"], row["line"]): row for row in rejected}
    table = measure(key, {place: row["reason"] for place, row in dropped.items()}, facts["rows"]["read"])
    write_json(Path(recipe.output_dir) / "measured.json", table)
    console = Console()
    shown = Table(title="What curation found")
    for column in table[0]:
        shown.add_column(column, justify="left" if column in ("kind", "reasons given") else "right")
    for line in table:
        shown.add_row(*(f"{value:.1%}" if isinstance(value, float) else str(value) for value in line.values()))
    console.print(shown)
    for place, entry in sorted(key.items()):
        if place not in dropped:
            console.print(f"missed: {place[0]}:{place[1]} {entry['kind']} ({entry['variant']})", soft_wrap=True)
    for place, row in sorted(dropped.items()):
        if place not in key:
            console.print(f"clean, dropped: {place[0]}:{place[1]} {row['reason']}: {row['detail']}", soft_wrap=True)


def measure(
    key: dict[tuple[str, int], dict[str, str]], reasons: dict[tuple[str, int], str], read: int
) -> list[dict[str, object]]:
    """One line per kind, one for all spoilt rows and one for the clean ones. A place is (file, line)."""
    table: list[dict[str, object]] = []
    for kind in [*RIGHT_REASONS, "all spoilt"]:
        places = [place for place, entry in key.items() if kind in (entry["kind"], "all spoilt")]
        given = Counter(reasons[place] for place in places if place in reasons)
        right = sum(reasons.get(place) in RIGHT_REASONS[key[place]["kind"]] for place in places)
        table.append(_line(kind, len(places), given, right))
    clean = Counter(reason for place, reason in reasons.items() if place not in key)
    table.append(_line("clean", read - len(key), clean, 0))
    return table


def _line(kind: str, rows: int, given: Counter[str], right: int) -> dict[str, object]:
    names = ", ".join(f"{reason} {count}" for reason, count in given.most_common(4))
    share = max(rows, 1)
    return {
        "kind": kind,
        "rows": rows,
        "dropped": given.total() / share,
        "right reason": right / share,
        "reasons given": names,
    }


if __name__ == "__main__":
    run_script(main, "nothing was written, the files of an earlier run are as they were")
