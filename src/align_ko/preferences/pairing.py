"""Judged candidates → preference pairs that repair what greedy decoding breaks.

repair: rejected is the faulty greedy answer, chosen the best natural candidate, else the reference.
contrast: the greedy answer has no fault, but a candidate is clearly better.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import product

from align_ko.korean import cut_loop
from align_ko.preferences.candidates import Candidate
from align_ko.preferences.judges import Rated, Rating, closeness
from align_ko.recipe import PairingArgs
from align_ko.records import Message, PreferencePair

LENGTH = "rejected side much shorter: DPO would learn length"
REFERENCES_FULL = "no natural candidate, and the share of references is full"


def make_pairs(rated: Sequence[Rated], args: PairingArgs) -> tuple[list[PreferencePair], Counter[str]]:
    """Pairs, and the reasons why other prompts gave none."""
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    for one in rated:
        best = next(iter(one.fit(args)), None)
        faulty = one.faulty()
        if not faulty and (best is None or best[1].score - one.greedy[1].score < args.contrast_margin):
            dropped["greedy answer is as good"] += 1
            continue
        if best is None and one.task.reference is None:
            dropped["no natural candidate, and no reference"] += 1
            continue
        sides = _better_sides(one, best, args) if faulty else [best]
        failures = [one.greedy, *one.failures()[: args.rejected_samples]] if faulty else [one.greedy]
        for better, worse in product(sides, failures):
            if len(sides) == 2 and better and worse is not one.greedy:
                continue  # of two better sides, the curated answer alone stands against samples
            chosen = better[0].text if better else one.task.reference or ""
            rejected, finished = _cut(worse[0], len(chosen), args)
            if closeness(chosen, rejected) > args.max_similarity:
                dropped["both sides nearly the same"] += 1
            elif not long_enough(rejected, chosen, args):
                dropped[LENGTH] += 1
            else:
                origin = "repair" if faulty else "contrast"
                pairs.append(_pair(one, better, chosen, worse, rejected, finished, origin))
    return _with_few_references(pairs, args.reference_share if args.chosen == "candidate" else 1.0, dropped), dropped


def _better_sides(one: Rated, best: Rating | None, args: PairingArgs) -> list[Rating | None]:
    """What the faulty greedy answer is set against; None is the curated answer."""
    if best is None or one.task.reference is None:
        return [best]
    sides: dict[str, list[Rating | None]] = {"candidate": [best], "reference": [None], "both": [best, None]}
    return sides[args.chosen]


def _with_few_references(pairs: list[PreferencePair], share: float, dropped: Counter[str]) -> list[PreferencePair]:
    """At most `share` of what remains takes the reference as chosen; the least faulty greedy answers go first."""
    taken = [pair for pair in pairs if pair.chosen_by == "reference"]
    most = len(taken) if share >= 1 else int(share / (1 - share) * (len(pairs) - len(taken)))
    surplus = {pair.id for pair in sorted(taken, key=lambda pair: (pair.rejected_score, pair.id))[most:]}
    if surplus:
        dropped[REFERENCES_FULL] += len(surplus)
    return [pair for pair in pairs if pair.id not in surplus]


def _pair(
    one: Rated, best: Rating | None, chosen: str, worse: Rating, rejected: str, finished: bool, origin: str
) -> PreferencePair:
    failure, judged = worse
    return make_pair(
        one.task.id,
        one.task.prompt,
        chosen,
        rejected,
        origin=origin,
        chosen_score=best[1].score if best else 1.0,
        rejected_score=judged.score,
        chosen_faults=list(best[1].faults) if best else [],
        rejected_faults=list(judged.faults) + ([] if judged.relevant else ["irrelevant"]),
        chosen_by=best[0].decoding if best else "reference",
        rejected_by=failure.decoding,
        rejected_finished=finished,
    )


def _cut(failure: Candidate, chosen_length: int, args: PairingArgs) -> tuple[str, bool]:
    """The rejected text and whether it still ends where the model ended it.

    A loop is cut after a few periods (hundreds of equal tokens teach nothing more), and a side much longer than the chosen
    one at the tolerance. What was cut stays open: no eos is put behind it.
    """
    text = cut_loop(failure.text, args.loop_periods)
    limit = int(chosen_length * (1 + args.length_tolerance))
    if len(text) > limit:
        text = text[:limit].rsplit(" ", 1)[0]
    text = text.strip()
    return text, failure.finished and text == failure.text.strip()


def long_enough(rejected: str, chosen: str, args: PairingArgs) -> bool:
    """Whether the rejected side is within the tolerance: at 1.0 half as long as the chosen one, or longer."""
    return len(rejected) >= len(chosen) / (1 + args.length_tolerance)


def make_pair(
    task_id: str,
    prompt: list[Message],
    chosen: str,
    rejected: str,
    *,
    origin: str,
    chosen_score: float,
    rejected_score: float,
    chosen_by: str,
    rejected_by: str,
    chosen_faults: Sequence[str] = (),
    rejected_faults: Sequence[str] = (),
    rejected_finished: bool = True,
) -> PreferencePair:
    """A pair whose id is a hash of its prompt's id and both texts; scores are rounded to four places."""
    return PreferencePair(
        prompt,
        [{"role": "assistant", "content": chosen}],
        [{"role": "assistant", "content": rejected}],
        hashlib.sha256(f"{task_id}\x1e{chosen}\x1e{rejected}".encode("utf-8", "surrogatepass")).hexdigest()[:16],
        origin,
        round(chosen_score, 4),
        round(rejected_score, 4),
        list(chosen_faults),
        list(rejected_faults),
        chosen_by,
        rejected_by,
        rejected_finished,
    )
