"""Judged candidates → preference pairs. repair: rejected is the faulty greedy answer, chosen the best natural candidate, else
the reference. contrast: the greedy answer has no fault, but a candidate is clearly better."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from align_ko import reasons
from align_ko.korean import cut_loop
from align_ko.preferences.judges import Rated, Rating, closeness, is_fit
from align_ko.recipe import PairingArgs
from align_ko.records import Conversation, Message, PreferencePair


@dataclass(frozen=True)
class Side:
    text: str
    by: str  # "reference", a decoding, or "spoilt: " and the fault
    score: float
    faults: Sequence[str] = ()
    finished: bool = True  # False: training must not close it with eos


def make_pairs(rated: Sequence[Rated], args: PairingArgs) -> tuple[list[PreferencePair], Counter[str]]:
    """Pairs, and the reasons why other prompts gave none."""
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    for one in rated:
        best = next(iter(one.fit(args)), None)
        faulty = one.faulty()
        if not faulty and (best is None or best[1].score - one.greedy[1].score < args.contrast_margin):
            dropped[reasons.GREEDY_IS_GOOD] += 1
            continue
        sides = _better_sides(one, best, args.chosen if faulty else "candidate")
        if not sides:
            dropped[reasons.NO_CHOSEN] += 1
            continue
        failures = [one.greedy, *one.failures()[: args.rejected_samples]] if faulty else [one.greedy]
        for chosen, failure in product(sides, failures):
            if len(sides) == 2 and chosen.by != "reference" and failure is not one.greedy:
                continue  # of two better sides, only the curated answer is paired with samples
            rejected = _rejected(failure, len(chosen.text), args)
            if closeness(chosen.text, rejected.text) > args.max_similarity:
                dropped[reasons.SAME_SIDES] += 1
            elif not long_enough(rejected.text, chosen.text, args):
                dropped[reasons.SHORT_SIDE] += 1
            else:
                pairs.append(make_pair(one.task.id, one.task.prompt, "repair" if faulty else "contrast", chosen, rejected))
    return _with_few_references(pairs, args.reference_share if args.chosen == "candidate" else 1.0, dropped), dropped


def best_answer(one: Rated, args: PairingArgs) -> Conversation | None:
    """The prompt with the best answer, greedy or sampled, that is fit to be chosen; `group` is the decoding that gave it."""
    fit = [rating for rating in one.ratings if is_fit(rating[1], args)]
    if not fit:
        return None
    candidate, _ = max(fit, key=lambda rating: rating[1].score)
    answer: Message = {"role": "assistant", "content": candidate.text}
    return Conversation([*one.task.prompt, answer], "own_answers", candidate.decoding)


def _better_sides(one: Rated, best: Rating | None, wanted: str) -> list[Side]:
    """`wanted`: candidate, reference or both; what there is of one stands in for the other."""
    candidate = [Side(best[0].text, best[0].decoding, best[1].score, best[1].faults)] if best else []
    reference = [Side(one.task.reference, "reference", 1.0)] if one.task.reference is not None else []
    if wanted == "both":
        return candidate + reference
    return (candidate or reference) if wanted == "candidate" else (reference or candidate)


def _with_few_references(pairs: list[PreferencePair], share: float, dropped: Counter[str]) -> list[PreferencePair]:
    """At most `share` of what remains takes the reference as chosen; the least faulty greedy answers go first."""
    taken = [pair for pair in pairs if pair.chosen_by == "reference"]
    most = len(taken) if share >= 1 else int(share / (1 - share) * (len(pairs) - len(taken)))
    surplus = {pair.id for pair in sorted(taken, key=lambda pair: (pair.rejected_score, pair.id))[most:]}
    if surplus:
        dropped[reasons.REFERENCES_FULL] += len(surplus)
    return [pair for pair in pairs if pair.id not in surplus]


def _rejected(failure: Rating, chosen_length: int, args: PairingArgs) -> Side:
    """A loop is cut after a few periods, a long text at the tolerance; no eos is put behind what was cut."""
    candidate, judgement = failure
    text = cut_loop(candidate.text)
    limit = int(chosen_length * (1 + args.length_tolerance))
    if len(text) > limit:
        text = text[:limit].rsplit(" ", 1)[0]
    text = text.strip()
    faults = [*judgement.faults, *([] if judgement.relevant else ["irrelevant"])]
    finished = candidate.finished and text == candidate.text.strip()
    return Side(text, candidate.decoding, judgement.score, faults, finished)


def long_enough(rejected: str, chosen: str, args: PairingArgs) -> bool:
    """Whether the rejected side is within the tolerance: at 1.0 half as long as the chosen one, or longer."""
    return len(rejected) >= len(chosen) / (1 + args.length_tolerance)


def make_pair(task_id: str, prompt: list[Message], origin: str, chosen: Side, rejected: Side) -> PreferencePair:
    """A pair whose id is a hash of its prompt's id and both texts; scores are rounded to four places."""
    return PreferencePair(
        prompt=prompt,
        chosen=[{"role": "assistant", "content": chosen.text}],
        rejected=[{"role": "assistant", "content": rejected.text}],
        id=hashlib.sha256(f"{task_id}\x1e{chosen.text}\x1e{rejected.text}".encode("utf-8", "surrogatepass")).hexdigest()[:16],
        origin=origin,
        chosen_score=round(chosen.score, 4),
        rejected_score=round(rejected.score, 4),
        chosen_faults=list(chosen.faults),
        rejected_faults=list(rejected.faults),
        chosen_by=chosen.by,
        rejected_by=rejected.by,
        rejected_finished=rejected.finished,
    )
