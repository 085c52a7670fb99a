"""Candidates → preference pairs that repair what greedy decoding breaks.

repair: rejected is the faulty greedy answer, chosen the best natural candidate, else the reference.
contrast: the greedy answer has no fault, but a candidate is clearly better.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from align_ko.korean import cut_loop
from align_ko.preferences.candidates import Candidate, Task
from align_ko.preferences.judges import Judgement, closeness, judge
from align_ko.recipe import PairingArgs
from align_ko.records import PreferencePair, last_user_text


def make_pairs(
    tasks: list[Task], candidates: dict[str, list[Candidate]], args: PairingArgs
) -> tuple[list[PreferencePair], Counter[str], list[dict[str, Any]]]:
    """Pairs, the reasons why other prompts gave none, and every judgement (for the record)."""
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    judged: list[dict[str, Any]] = []
    references = 0
    for task in tasks:
        question, reference = last_user_text(task.prompt), task.reference or ""
        rated = [(c, judge(question, c.text, c.finished, reference)) for c in candidates[task.id]]
        judged += [{"id": task.id, "setting": c.setting, "text": c.text, **vars(j)} for c, j in rated]
        greedy, greedy_judged = rated[0]
        good = [
            (c, j) for c, j in rated[1:] if j.natural and j.relevant and j.variety >= args.min_variety
            and j.naturalness >= args.min_chosen_score
        ]  # fmt: skip
        best = max(good, key=lambda pair: pair[1].score, default=None)
        faulty = not greedy_judged.natural or not greedy_judged.relevant
        if not faulty and (best is None or best[1].score - greedy_judged.score < args.contrast_margin):
            dropped["greedy answer is as good"] += 1
            continue
        if best is None and not reference:
            dropped["no natural candidate, and no reference"] += 1
            continue
        if best is None and references >= args.reference_share * max(len(pairs), 1):
            dropped["no natural candidate, and the share of references is full"] += 1
            continue
        chosen_text = best[0].text if best else reference
        rejected_text, finished = _cut(greedy, len(chosen_text), args)
        if closeness(chosen_text, rejected_text) > args.max_similarity:
            dropped["both sides nearly the same"] += 1
            continue
        if len(rejected_text) < len(chosen_text) / (1 + args.length_tolerance):
            dropped["rejected side much shorter: DPO would learn length"] += 1
            continue
        references += best is None
        pairs.append(_pair(task, best, chosen_text, greedy, greedy_judged, rejected_text, finished, faulty))
    return pairs, dropped, judged


def _pair(
    task: Task,
    best: tuple[Candidate, Judgement] | None,
    chosen: str,
    greedy: Candidate,
    greedy_judged: Judgement,
    rejected: str,
    finished: bool,
    faulty: bool,
) -> PreferencePair:
    return PreferencePair(
        prompt=task.prompt,
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
        id=hashlib.sha256(f"{task.id}\x1e{chosen}\x1e{rejected}".encode()).hexdigest()[:16],
        origin="repair" if faulty else "contrast",
        chosen_score=round(best[1].score, 4) if best else 1.0,
        rejected_score=round(greedy_judged.score, 4),
        chosen_faults=list(best[1].faults) if best else [],
        rejected_faults=list(greedy_judged.faults) + ([] if greedy_judged.relevant else ["irrelevant"]),
        chosen_by=best[0].decoding if best else "reference",
        rejected_by=greedy.decoding,
        rejected_finished=finished,
    )


def _cut(greedy: Candidate, chosen_length: int, args: PairingArgs) -> tuple[str, bool]:
    """The rejected text and whether it still ends where the model ended it.

    A loop is cut after a few periods (hundreds of equal tokens teach nothing more), and a side much longer than the chosen
    one at the tolerance. What was cut stays open: no eos is put behind it.
    """
    text = cut_loop(greedy.text, args.loop_periods)
    limit = int(chosen_length * (1 + args.length_tolerance))
    if len(text) > limit:
        text = text[:limit].rsplit(" ", 1)[0]
    text = text.strip()
    return text, greedy.finished and text == greedy.text.strip()
