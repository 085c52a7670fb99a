"""From drawn candidates to the folder that DPO reads: judge, pair, spoil, guard, report."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.overlap import PromptIndex
from align_ko.preferences import guards
from align_ko.preferences.candidates import Candidate
from align_ko.preferences.pairing import make_pairs
from align_ko.preferences.rating import judgement_rows, rate
from align_ko.preferences.synthetic import Good, synthetic_pairs
from align_ko.recipe import JudgesArgs, PairingArgs
from align_ko.records import PreferencePair, PromptRow, write_jsonl
from align_ko.report.pairs import split, write_report


@dataclass(frozen=True)
class Built:
    train: list[PreferencePair]
    held_out: list[PreferencePair]
    summary: dict[str, Any] = field(default_factory=dict)  # what report.json holds


def build_pairs(
    tasks: Sequence[PromptRow],
    candidates: Mapping[str, Sequence[Candidate]],
    judges: JudgesArgs,
    pairing: PairingArgs,
    folder: Path,
    held_out: PromptIndex,
    curated: Sequence[PromptRow] = (),
    recipe_name: str = "",
) -> Built:
    """Write train.jsonl, eval.jsonl, judgements.jsonl and the report into `folder`; the numbers of the report are returned.

    `held_out`: the evaluation prompts, which no pair may ask. `curated`: further prompts whose curated answers may be spoilt
    (`curated_share`), beside those of `tasks`. UserError where no pair at all can be made.
    """
    dropped: Counter[str] = Counter()
    allowed = [task for task in tasks if not guards.is_held_out(task.prompt, held_out)]
    if len(allowed) < len(tasks):
        dropped[guards.EVALUATION] = len(tasks) - len(allowed)
    rated = rate(allowed, candidates, judges, pairing, folder)
    write_jsonl(folder / "judgements.jsonl", judgement_rows(rated))
    pairs, reasons = make_pairs(rated, pairing)
    dropped += reasons
    if pairing.drop_shared_filler:
        pairs = guards.drop_shared_filler(pairs, dropped)
    pairs = guards.drop_generic(pairs, pairing.max_collapse, dropped)
    to_spoil = [*allowed, *(task for task in curated if not guards.is_held_out(task.prompt, held_out))]
    pairs = [*pairs, *_spoilt(pairs, to_spoil, pairing, dropped)]
    pairs = guards.balance(guards.drop_generic(pairs, pairing.max_collapse, dropped), pairing, dropped)
    pairs = guards.drop_held_out(pairs, held_out, dropped)  # the last word, whatever made the pair
    if not pairs:
        raise UserError(f"no pair could be made of {len(tasks)} prompts: {dict(dropped)}", file=folder)
    train, apart = split(pairs, pairing.eval_share)
    write_jsonl(folder / "train.jsonl", [pair.to_row() for pair in train])
    write_jsonl(folder / "eval.jsonl", [pair.to_row() for pair in apart])
    return Built(train, apart, write_report(folder, pairs, dropped, len(tasks), recipe_name))


def _spoilt(
    pairs: list[PreferencePair], tasks: Sequence[PromptRow], args: PairingArgs, dropped: Counter[str]
) -> list[PreferencePair]:
    """Synthetic pairs in the shares asked for: of chosen candidates, and of curated answers, those without a pair first."""
    total = len(pairs) / (1 - args.synthetic_share - args.curated_share)
    own = [_good(pair) for pair in pairs if pair.chosen_by != "reference"]
    paired = {str(pair.prompt) for pair in pairs}
    curated = {
        task.id: (str(task.prompt) in paired, Good(task.id, task.prompt, task.reference, "reference", 1.0))
        for task in tasks
        if task.reference is not None
    }
    free_first = [good for _, good in sorted(curated.values(), key=lambda item: (item[0], _shuffled(item[1].task_id)))]
    made: list[PreferencePair] = []
    for good, share in (
        (sorted(own, key=lambda g: _shuffled(g.task_id)), args.synthetic_share),
        (free_first, args.curated_share),
    ):
        if share:
            spoilt, reasons = synthetic_pairs(good, round(share * total), args)
            made += spoilt
            dropped += reasons
    return made


def _good(pair: PreferencePair) -> Good:
    return Good(pair.id, pair.prompt, pair.chosen[0]["content"], pair.chosen_by, pair.chosen_score)


def _shuffled(task_id: str) -> bytes:
    return hashlib.sha256(f"spoil {task_id}".encode()).digest()
