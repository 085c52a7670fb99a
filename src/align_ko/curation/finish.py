"""The second half of a curation run, the same on one machine and on an engine: near-duplicates fall, the groups are mixed, rows
are selected, split and written, and what happened is reported."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Protocol, cast

from align_ko import reasons
from align_ko.adapters import Rejection
from align_ko.curation.facts import EXAMPLES_PER_REASON, CurationFacts, NearDuplicateFacts, NearDuplicatePair, Tally
from align_ko.curation.judge import Judged
from align_ko.curation.near_duplicates import Duplicate
from align_ko.curation.select import PART, Features, decide, quotas, select, split
from align_ko.errors import UserError
from align_ko.manifest import remove_manifest
from align_ko.recipe import DataRecipe
from align_ko.records import ConversationRow, atomic_writes
from align_ko.workers import Workers

KEPT_EXAMPLES = 30


class Kept(Protocol):
    """The rows that are left, numbered as they were read."""

    @property
    def rows(self) -> Sequence[Judged]: ...

    def text(self, number: int) -> str:
        """JSON of row `number`, with its line end."""

    def drop(self, reasons: dict[int, Rejection]) -> None:
        """Drop rows by number. The others keep their order and get new numbers."""


def finish(recipe: DataRecipe, pool: Kept, tally: Tally, repeats: Mapping[int, Duplicate], workers: Workers) -> CurationFacts:
    """UserError where no row is left for training."""
    out, count = Path(recipe.output_dir), len(pool.rows)
    repeated = _drop_repeats(recipe, pool, repeats)
    tally.lap("near-duplicates", count)
    groups = [row.group for row in pool.rows]
    mixture = decide(Counter(groups), recipe.weights, recipe.max_samples, recipe.on_shortage)
    places = _selected(recipe, pool.rows, groups, mixture.taken, workers)
    taken = [pool.rows[place] for place in places]
    train, held_out, preferences = split(taken, recipe.eval_share, recipe.preference_share)
    held_out += list({row.id: row for row in [*train, *preferences] if row.held_out}.values())  # by a column of their own
    train, preferences = ([row for row in rows if not row.held_out] for rows in (train, preferences))
    if not train:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sum(tally.dropped.values(), Counter()).most_common())
        problem = f"no row of {tally.read.total():,} is left for training: {reasons or 'all are held out'}"
        raise UserError(f"{problem}; this file has each with its reason", file=out / "rejected.jsonl")
    tally.lap("select", len(groups))
    splits = {"train": train, "eval": held_out, "preferences": preferences}
    numbers = {row.id: place for row, place in zip(taken, places, strict=True)}
    names = [name for name, rows in splits.items() if rows or name != "preferences"]
    with atomic_writes(*(out / f"{name}.jsonl" for name in names), before=partial(remove_manifest, out)) as files:
        for name, file in zip(names, files, strict=True):
            file.writelines(pool.text(numbers[row.id]) for row in splits[name])
    if not preferences:  # an earlier run's rows would be trained on now
        (out / "preferences.jsonl").unlink(missing_ok=True)
    examples = Random(recipe.seed).sample(train, min(KEPT_EXAMPLES, len(train)))
    kept_examples: list[ConversationRow] = [json.loads(pool.text(numbers[row.id])) for row in examples]
    notes = _notes(tally.unread, train, pool, numbers)
    tally.lap("write", len(taken))
    return tally.facts(recipe, mixture, pool.rows, taken, splits, repeated, kept_examples) | {"notes": notes}


def _selected(
    recipe: DataRecipe, rows: Sequence[Judged], groups: Sequence[str], taken: Mapping[str, int], workers: Workers
) -> list[int]:
    """The places of the rows that are taken."""
    parts, chosen = max(-(-len(rows) // PART), 1), list[int]()
    for part, some in enumerate(quotas(groups, taken, parts)):
        places = range(part, len(rows), parts)
        features = [
            Features(row.id, row.group, row.score, sum(row.lengths), row.words) for row in map(rows.__getitem__, places)
        ]
        chosen += [places[place] for place in select(features, some, recipe.seed, recipe.selection, workers)]
    return chosen


def _drop_repeats(recipe: DataRecipe, pool: Kept, repeats: Mapping[int, Duplicate]) -> NearDuplicateFacts:
    sides = Counter(one.side for one in repeats.values())
    facts: NearDuplicateFacts = {"question": sides["question"], "answer": sides["answer"], "examples": []}
    for number in Random(recipe.seed).sample(sorted(repeats), min(EXAMPLES_PER_REASON, len(repeats))):
        one, kept, dropped = repeats[number], pool.text(repeats[number].kept), pool.text(number)
        pair = {"kept": json.loads(kept), "dropped": json.loads(dropped), "side": one.side, "similarity": one.similarity}
        facts["examples"].append(cast(NearDuplicatePair, pair))
    rejections = {}
    for number, one in repeats.items():
        better = pool.rows[one.kept]
        detail = reasons.NEARLY_THE_SAME.format(one.side, one.similarity, better.file, better.line)
        rejections[number] = Rejection("near_duplicate", detail)
    pool.drop(rejections)
    return facts


def _notes(read: Mapping[str, Counter[str]], train: Sequence[Judged], pool: Kept, numbers: Mapping[str, int]) -> list[str]:
    """What a person should know beside the counts: keys that nothing read, an ending that most answers share."""
    notes = [
        f"{name}: keys that nothing reads: " + ", ".join(f"{key} ({count} rows)" for key, count in keys.most_common())
        for name, keys in read.items()
        if keys
    ]
    ends: Counter[str] = Counter()
    for row in train:
        last = json.loads(pool.text(numbers[row.id]))["messages"][-1]["content"].split()[-1]
        ends[last.removesuffix(".")] += 1
    if len(train) >= 5 and ends.most_common(1)[0][1] > len(train) / 2:
        ending, count = ends.most_common(1)[0]
        notes.append(f"{count} of {len(train)} training answers end with {ending!r}: a marker of the data that will be learnt")
    return notes
