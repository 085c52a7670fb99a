"""Every candidate of every prompt judged by all judges that the recipe asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from align_ko.preferences.candidates import Candidate
from align_ko.preferences.judges import Judgement, Verdict, combine, judge, win_shares
from align_ko.recipe import JudgesArgs, JudgeWeights, PairingArgs
from align_ko.records import PromptRow, last_user_text

Rating = tuple[Candidate, Judgement]


@dataclass(frozen=True)
class Rated:
    """One prompt's greedy answer and its samples, judged."""

    task: PromptRow
    greedy: Rating
    samples: list[Rating]

    def faulty(self) -> bool:
        """Whether the greedy answer needs repair."""
        return is_faulty(self.greedy[1])

    def failures(self) -> list[Rating]:
        """The samples that need repair too, the worst first; an answer that another one repeats counts once."""
        worst_first = sorted((one for one in self.samples if is_faulty(one[1])), key=lambda one: one[1].score)
        different = {one[0].text: one for one in reversed(worst_first) if one[0].text != self.greedy[0].text}
        return sorted(different.values(), key=lambda one: one[1].score)

    def fit(self, args: PairingArgs) -> list[Rating]:
        """The samples good enough to be chosen, the best first."""
        return sorted((one for one in self.samples if is_fit(one[1], args)), key=lambda one: -one[1].score)


def is_faulty(judgement: Judgement) -> bool:
    return not judgement.natural or not judgement.relevant


def is_fit(judgement: Judgement, args: PairingArgs) -> bool:
    """Natural, to the point, varied, and near enough to the curated answer where there is one."""
    near = judgement.verdicts.get("reference")
    return (
        judgement.natural
        and judgement.relevant
        and judgement.variety >= args.min_variety
        and judgement.naturalness >= args.min_chosen_score
        and (near is None or near.score >= min(1.0, 2 * args.min_closeness))  # its verdict is the closeness doubled
    )


def rate(
    tasks: Sequence[PromptRow],
    candidates: Mapping[str, Sequence[Candidate]],
    judges: JudgesArgs,
    pairing: PairingArgs,
    folder: Path,
) -> list[Rated]:
    """Judge them all. The reward model reads every answer; the endpoint compares only those that may still be chosen.

    What both said lies in `folder` (reward_scores.jsonl, llm_verdicts.jsonl), so that a run goes on where it was killed.
    """
    weights = judges.weights
    rated = [_cheaply(task, candidates[task.id], weights) for task in tasks if candidates.get(task.id)]
    if weights.reward_model:
        rated = _with_reward_model(rated, judges, folder / "reward_scores.jsonl")
    if weights.llm:
        rated = _with_llm(rated, judges, pairing, folder / "llm_verdicts.jsonl")
    return rated


def _cheaply(task: PromptRow, candidates: Sequence[Candidate], weights: JudgeWeights) -> Rated:
    question = last_user_text(task.prompt)
    ratings = [(one, judge(question, one.text, one.finished, task.reference, weights)) for one in candidates]
    greedy = next((place for place, one in enumerate(candidates) if one.setting == "greedy"), 0)
    return Rated(task, ratings[greedy], ratings[:greedy] + ratings[greedy + 1 :])


def _with_reward_model(rated: list[Rated], judges: JudgesArgs, file: Path) -> list[Rated]:
    from align_ko.preferences.reward_model import reward_scores

    asked = [(one.task.prompt, candidate.text) for one in rated for candidate, _ in (one.greedy, *one.samples)]
    scores = iter(reward_scores(asked, judges.reward_model, file))
    told = []
    for one in rated:
        own = [next(scores) for _ in (one.greedy, *one.samples)]
        shares = win_shares(own)
        verdicts = [
            Verdict(share, f"{raw:.3f}, above {share:.0%} of the others") for raw, share in zip(own, shares, strict=True)
        ]
        told.append(_told(one, "reward_model", verdicts, judges.weights))
    return told


def _with_llm(rated: list[Rated], judges: JudgesArgs, pairing: PairingArgs, file: Path) -> list[Rated]:
    """The `top` fit samples by the other judges, and the greedy answer if it is faultless; all others count as having lost."""
    from align_ko.preferences.llm_judge import LlmJudge

    compared = [_different(one.fit(pairing))[: judges.llm.top] for one in rated]
    compared = [best if one.faulty() or not best else [one.greedy, *best] for one, best in zip(rated, compared, strict=True)]
    groups = [
        (one.task.prompt, one.task.reference, [c.text for c, _ in best]) for one, best in zip(rated, compared, strict=True)
    ]
    told = []
    for one, best, verdicts in zip(rated, compared, LlmJudge(judges.llm, file).compare(groups), strict=True):
        known = {id(candidate): verdict for (candidate, _), verdict in zip(best, verdicts, strict=True)}
        lost = Verdict(0.0, "not compared: faulty, or not among the best by the other judges")
        every = [known.get(id(candidate), lost) for candidate, _ in (one.greedy, *one.samples)]
        told.append(_told(one, "llm", every, judges.weights))
    return told


def _different(ratings: list[Rating]) -> list[Rating]:
    """Without those that say the same as one before: cool samples often do."""
    first: dict[str, Rating] = {}
    for rating in ratings:
        first.setdefault(rating[0].text, rating)
    return list(first.values())


def _told(one: Rated, name: str, verdicts: Sequence[Verdict], weights: JudgeWeights) -> Rated:
    """`one` with a further judge's verdicts, the greedy answer's first, and scores that count them."""
    ratings = []
    for (candidate, judgement), verdict in zip((one.greedy, *one.samples), verdicts, strict=True):
        known = {**judgement.verdicts, name: verdict}
        ratings.append((candidate, replace(judgement, verdicts=known, score=combine(known, weights))))
    return Rated(one.task, ratings[0], ratings[1:])


def judgement_rows(rated: Sequence[Rated]) -> list[dict[str, Any]]:
    """One row per candidate for judgements.jsonl: what every judge said and why."""
    return [
        {
            "id": one.task.id,
            "setting": candidate.setting,
            "text": candidate.text,
            "natural": judgement.natural,
            "faults": judgement.faults,
            "score": round(judgement.score, 4),
            "judges": {name: {**asdict(said), "score": round(said.score, 4)} for name, said in judgement.verdicts.items()},
        }
        for one in rated
        for candidate, judgement in (one.greedy, *one.samples)
    ]
