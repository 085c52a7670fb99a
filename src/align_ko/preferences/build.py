"""From drawn candidates to the folder that DPO reads: judge, pair, spoil, guard, and count what came of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import TypedDict

from align_ko import reasons
from align_ko.errors import NothingToDo, warn
from align_ko.korean import assess, measure
from align_ko.manifest import remove_manifest
from align_ko.models.source import ModelSource
from align_ko.overlap import PromptIndex
from align_ko.preferences import guards
from align_ko.preferences.candidates import Candidate
from align_ko.preferences.judges import judgement_rows, rate
from align_ko.preferences.pairing import Side, best_answer, make_pair, make_pairs
from align_ko.preferences.synthetic import Good, synthetic_pairs
from align_ko.recipe import JudgesArgs, PairingArgs
from align_ko.records import PreferencePair, PromptRow, atomic_writes, content_id, last_user_text, read_pairs

_GAP_STEP = 0.2  # bin width of the histogram of length gaps


class OriginAndFault(TypedDict):
    origin: str
    fault: str
    pairs: int


class PairSummary(TypedDict):
    """What report.json contains, but for the advice."""

    prompts: int
    best: int  # prompts with an answer in best.jsonl
    pairs: int
    origin: dict[str, int]
    rejected_for: dict[str, int]
    rejected_faults: dict[str, int]
    origin_and_fault: list[OriginAndFault]
    chosen_by: dict[str, int]
    rejected_by: dict[str, int]
    rejected_unfinished: int
    median_characters: dict[str, float]
    mean_characters: dict[str, float]
    mean_length_gap: float
    length_gap_share: float
    length_gaps: list[tuple[float, int]]  # (lower edge of the bin, pairs)
    off_policy_share: float
    mean_scores: dict[str, float]
    chosen: dict[str, float]  # korean.measure of the chosen answers
    dropped: dict[str, int]


@dataclass(frozen=True)
class Built:
    train: list[PreferencePair]
    held_out: list[PreferencePair]
    summary: PairSummary


def build_pairs(
    tasks: Sequence[PromptRow],
    candidates: Mapping[str, Sequence[Candidate]],
    judges: JudgesArgs,
    pairing: PairingArgs,
    folder: Path,
    held_out: PromptIndex,
    curated: Sequence[PromptRow] = (),
    extra: Sequence[PreferencePair] = (),
    answered_by: str | ModelSource | None = None,
) -> Built:
    """Write train.jsonl, eval.jsonl, best.jsonl and judgements.jsonl into `folder`, and return the pairs, none of them with a
    prompt of `held_out`, and their numbers. best.jsonl has a conversation per prompt that any answer of the model's own is fit
    for, closed by the best of them: what an SFT on its own words is trained on (rejection sampling). Curated answers of `tasks`
    and `curated` may be spoilt (`curated_share`). `answered_by` drew the candidates and is the likelihood judge, which None
    leaves out. NothingToDo where no pair can be made, after empty files were written."""
    dropped: Counter[str] = Counter()
    allowed = [task for task in tasks if not guards.is_held_out(task.prompt, held_out)]
    if len(allowed) < len(tasks):
        dropped[reasons.HELD_OUT] = len(tasks) - len(allowed)
    rated = rate(allowed, candidates, judges, pairing, folder, answered_by)
    if len(rated) < len(allowed):
        dropped[reasons.NOT_ANSWERED] = len(allowed) - len(rated)
    pairs, left_out = make_pairs(rated, pairing)
    dropped += left_out
    if pairing.drop_shared_filler:
        pairs = guards.drop_shared_filler(pairs, dropped)
    pairs = guards.drop_generic(pairs, pairing.max_collapse, dropped)
    to_spoil = [*allowed, *(task for task in curated if not guards.is_held_out(task.prompt, held_out))]
    pairs = [*pairs, *_spoilt(pairs, to_spoil, pairing, dropped)]
    pairs = guards.balance(guards.drop_generic(pairs, pairing.max_collapse, dropped), pairing, dropped)
    pairs = guards.drop_held_out([*pairs, *extra], held_out, dropped)  # last, whatever made the pair
    train, apart = split(pairs, pairing.eval_share)
    best = [conversation for one in rated if (conversation := best_answer(one, pairing))]
    names = (folder / f"{name}.jsonl" for name in ("judgements", "best", "train", "eval"))
    written = ([row.to_row() for row in rows] for rows in (best, train, apart))
    with atomic_writes(*names, before=partial(remove_manifest, folder)) as files:  # empty ones too: old ones would count
        for file, rows in zip(files, (judgement_rows(rated), *written), strict=True):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not pairs:
        why = "; ".join(f"{count:,} {reason}" for reason, count in dropped.most_common())
        raise NothingToDo(reasons.NO_PAIR.format(folder, len(tasks), why))
    return Built(train, apart, summarize(pairs, dropped, len(tasks), len(best)))


def given_pairs(files: Iterable[str]) -> list[PreferencePair]:
    """The pairs of `extra_pairs_files`, with the scores and faults that assess gives their sides."""
    pairs, longer = [], 0
    for file in files:
        for row in read_pairs(file):
            if len(row["chosen"]) > 1 or len(row["rejected"]) > 1:
                longer += 1  # which run_dpo.py takes; the judges and guards of pairs know one answer
                continue
            texts, ended = (row["chosen"][0]["content"], row["rejected"][0]["content"]), row.get("rejected_finished", True)
            asked = last_user_text(row["prompt"])
            good, bad = (assess(text, asked, end, "polite") for text, end in zip(texts, (True, ended), strict=True))
            sides = Side(texts[0], "given", good.score, good.codes, True), Side(texts[1], "given", bad.score, bad.codes, ended)
            pairs.append(make_pair(content_id(row["prompt"]), row["prompt"], "given", *sides))
    if longer:
        warn(f"extra_pairs_files: {longer} pairs with sides of several turns are left out")
    return pairs


def _spoilt(
    pairs: list[PreferencePair], tasks: Sequence[PromptRow], args: PairingArgs, dropped: Counter[str]
) -> list[PreferencePair]:
    """Synthetic pairs in the shares of the recipe: of chosen candidates, and of curated answers, those without a pair first."""
    total = len(pairs) / (1 - args.synthetic_share - args.curated_share)
    own = [
        Good(pair.id, pair.prompt, pair.chosen[0]["content"], pair.chosen_by, pair.chosen_score)
        for pair in pairs
        if pair.chosen_by != "reference"
    ]
    paired = {str(pair.prompt) for pair in pairs}
    curated = {
        task.id: Good(task.id, task.prompt, task.reference, "reference", 1.0) for task in tasks if task.reference is not None
    }

    def shuffled(good: Good) -> bytes:
        return hashlib.sha256(f"spoil {good.task_id}".encode()).digest()

    own.sort(key=shuffled)
    free_first = sorted(curated.values(), key=lambda good: (str(good.prompt) in paired, shuffled(good)))
    made: list[PreferencePair] = []
    for good, share in ((own, args.synthetic_share), (free_first, args.curated_share)):
        if share:
            spoilt, left_out = synthetic_pairs(good, round(share * total), args)
            made += spoilt
            dropped += left_out
    return made


def split(pairs: list[PreferencePair], eval_share: float) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Train and eval by the pairs' hashes, at least one pair in eval; pairs of one prompt stay in one split."""
    ordered = sorted(pairs, key=lambda pair: pair.id)
    apart = {content_id(pair.prompt) for pair in ordered[: max(1, round(len(ordered) * eval_share))]}
    train = [pair for pair in ordered if content_id(pair.prompt) not in apart]
    return train or ordered, [pair for pair in ordered if content_id(pair.prompt) in apart]


def gap_of(pair: PreferencePair) -> float:
    """How much longer the chosen side is, as a share of the longer one, from -1 to 1: 90 characters beside 120 → -0.25."""
    chosen, rejected = len(pair.chosen[0]["content"]), len(pair.rejected[0]["content"])
    return (chosen - rejected) / max(chosen, rejected, 1)


def summarize(pairs: Sequence[PreferencePair], dropped: Counter[str], prompts: int, best: int = 0) -> PairSummary:
    """The numbers of the report. `prompts`: how many prompts the pairs were made from; `best`: how many got a fit answer."""
    chosen = [pair.chosen[0]["content"] for pair in pairs]
    lengths = [[len(text) for text in chosen], [len(pair.rejected[0]["content"]) for pair in pairs]]
    chosen_mean, rejected_mean = (round(mean(side), 1) for side in lengths)
    measures = measure([last_user_text(pair.prompt) for pair in pairs], chosen)
    bins = round(2 / _GAP_STEP)
    gaps = Counter(min(int((gap_of(pair) + 1) / _GAP_STEP + 1e-9), bins - 1) for pair in pairs)
    by_fault = Counter((pair.origin, guards.main_fault(pair)) for pair in pairs)
    return {
        "prompts": prompts,
        "best": best,
        "pairs": len(pairs),
        "origin": _counts(pair.origin for pair in pairs),
        "rejected_for": _counts(map(guards.main_fault, pairs)),
        "rejected_faults": _counts(fault for pair in pairs for fault in pair.rejected_faults),
        "origin_and_fault": [{"origin": one, "fault": fault, "pairs": n} for (one, fault), n in by_fault.most_common()],
        "chosen_by": _counts(pair.chosen_by for pair in pairs),
        "rejected_by": _counts(pair.rejected_by for pair in pairs),
        "rejected_unfinished": sum(not pair.rejected_finished for pair in pairs),
        "median_characters": {"chosen": median(lengths[0]), "rejected": median(lengths[1])},
        "mean_characters": {"chosen": chosen_mean, "rejected": rejected_mean},
        "mean_length_gap": round(chosen_mean - rejected_mean, 1),
        "length_gap_share": round(chosen_mean / max(rejected_mean, 1) - 1, 4),
        "length_gaps": [(round(-1 + _GAP_STEP * place, 1), gaps.get(place, 0)) for place in range(bins)],
        "off_policy_share": round(sum(pair.chosen_by in ("reference", "given") for pair in pairs) / len(pairs), 4),
        "mean_scores": {
            "chosen": round(mean(pair.chosen_score for pair in pairs), 3),
            "rejected": round(mean(pair.rejected_score for pair in pairs), 3),
        },
        "chosen": {name: round(value, 4) for name, value in asdict(measures).items()},
        "dropped": dict(dropped.most_common()),
    }


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
