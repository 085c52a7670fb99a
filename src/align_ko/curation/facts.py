"""What a curation run can say of itself: the dictionary behind report.json, the page, the card and the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from align_ko.curation.filters import choose_filters
from align_ko.curation.judged import Judged
from align_ko.curation.mixture import Mixture
from align_ko.curation.pool import Pool, count
from align_ko.curation.stopwatch import Stopwatch
from align_ko.recipe import DataRecipe, place_of
from align_ko.report import curation as report


def gather_facts(
    recipe: DataRecipe, pool: Pool, mixture: Mixture, chosen: Sequence[Judged], sides: tuple[int, int, int], watch: Stopwatch
) -> dict[str, Any]:
    """All but the example rows and the near-duplicates. `sides`: rows for training, for eval loss, for preference pairs."""
    read = sum(tally.read for tally in pool.tallies.values())
    different = list({row.id: row for row in chosen}.values())
    taken = Counter(row.label for row in different)
    repaired = Counter(name for row in different for name in row.repairs if name != "personal_data")
    return {
        "recipe": str(place_of(recipe, "sources").file or ""),
        "rows": {
            "read": read,
            "kept": len(pool.rows),
            "taken": len(chosen),
            **dict(zip(("train", "eval", "preferences"), sides, strict=True)),
        },
        "seconds": round(watch.seconds, 1),
        "rows_per_second": round(read / max(watch.seconds, 1e-9)),
        "steps": watch.steps,
        "funnel": {name: report.funnel(t.read, t.dropped, taken[name]) for name, t in pool.tallies.items()},
        "reasons": {name: dict(tally.dropped.most_common()) for name, tally in pool.tallies.items()},
        "mixture": {"groups": mixture.table(), "decision": mixture.decision},
        "selection": {
            "how": recipe.selection,
            "score_before": round(_mean(row.score for row in pool.rows), 4),
            "score_after": round(_mean(row.score for row in different), 4),
        },
        "answer_characters": report.histograms(
            sum(pool.lengths_before.values(), Counter()), count(row.lengths for row in chosen)
        ),
        "answer_characters_by_group": {
            group: report.histograms(pool.lengths_before[group], count(row.lengths for row in chosen if row.group == group))
            for group in mixture.taken
            if group in pool.lengths_before
        },
        "speech_levels": {
            "before": dict(pool.levels_before.most_common()),
            "after": dict(count(row.levels for row in chosen).most_common()),
        },
        "scores": {"before": _tenths(pool.rows), "after": _tenths(different)},
        "repairs": dict(repaired.most_common()),
        "repair_examples": _repair_examples(different),
        "personal_data": {"masked": dict(Counter(kind for row in different for kind in row.masked).most_common())},
        "dropped_examples": dict(sorted(pool.examples.items())),
        "filters": [check.__name__ for check in choose_filters(recipe.filters)]
        + ["evaluation_overlap", "duplicate", "near_duplicate"],
    }


def _repair_examples(rows: Iterable[Judged]) -> list[dict[str, str]]:
    """One row for each repair, the one with the smallest id, so that it does not hang on the order."""
    shown: dict[str, Judged] = {}
    for row in rows:
        for name in row.repairs:
            if name not in shown or row.id < shown[name].id:
                shown[name] = row
    pairs = [(name, *row.repaired) for name, row in sorted(shown.items())]
    return [{"repair": name, "before": before, "after": after} for name, before, after in pairs]


def _tenths(rows: Iterable[Judged]) -> dict[str, int]:
    """Rows by score: `{"0.8-0.9": 12, "0.9-1.0": 871}`."""
    counts = Counter(min(int(row.score * 10), 9) for row in rows)
    return {f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}": counts[tenth] for tenth in sorted(counts)}


def _mean(values: Iterable[float]) -> float:
    several = list(values)
    return sum(several) / max(len(several), 1)
