"""How good is one candidate? Natural Korean first, then: to the point, close to the reference, and rich in words.

The judges here read one answer at a time; reward_model.py and llm_judge.py compare a prompt's answers. Each
gives 0 to 1 with a reason, and `combine` takes their mean by the recipe's weights. `rate` asks all that the recipe names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from align_ko.korean import assess
from align_ko.models.source import ModelSource
from align_ko.preferences.candidates import Candidate
from align_ko.recipe import GenerationArgs, JudgesArgs, JudgeWeights, PairingArgs
from align_ko.records import PromptRow, last_user_text

_WORD = re.compile(r"[가-힣]+|[A-Za-z]+|\d+")


@dataclass(frozen=True)
class JudgeScore:
    """What one judge says of one answer."""

    score: float  # 0..1
    reason: str


@dataclass(frozen=True)
class Judgement:
    natural: bool
    faults: list[str]
    by_judge: dict[str, JudgeScore]  # by the judges' names in the recipe
    score: float  # what candidates are ranked by, 0..1
    outside: str = ""
    """A kind of text that the judge is not made for: neither chosen nor rejected for its form."""

    @property
    def relevant(self) -> bool:
        """True, too, where nobody asked."""
        return "likelihood" not in self.by_judge or self.by_judge["likelihood"].score > 0


def variety(text: str) -> float:
    """1 minus the share of words in a word pair or with a two-syllable stem already used; a soft form of `filler`.

    Good written answers score above .8; one that repeats a phrase scores below .6:
    "'들었을 때'가 맞다면 '들었을 때'가 맞아요. '들었을 때'는 …" → .4
    """
    words = _WORD.findall(text)
    if len(words) < 4:
        return 1.0
    pairs = list(pairwise(words))
    repeated_pairs = 1 - len(set(pairs)) / len(pairs)
    stems = [word[:2] for word in words if len(word) >= 2]
    counts = Counter(stems)
    crowding = sum(n - 2 for n in counts.values() if n > 2) / max(len(stems), 1)  # a topic word may come twice
    return max(0.0, 1 - 1.5 * repeated_pairs - crowding)


def closeness(text: str, reference: str) -> float:
    """Character-trigram F1 against the reference; 0 where nothing is shared."""

    def trigrams(value: str) -> Counter[str]:
        flat = "".join(_WORD.findall(value))
        return Counter(flat[i : i + 3] for i in range(len(flat) - 2))

    a, b = trigrams(text), trigrams(reference)
    shared = sum((a & b).values())
    return 2 * shared / max(sum(a.values()) + sum(b.values()), 1)


def judge(prompt: str, text: str, finished: bool, reference: str | None, weights: JudgeWeights | None = None) -> Judgement:
    """The cheap judges' scores on one candidate; without a reference its judge does not count.

    Half of the trigrams shared with the reference count as all (doubled and cut at 1): other words may say the same.
    """
    assessment = assess(text, prompt, finished)
    rich = variety(text)
    faults = dict.fromkeys(f"{fault.code}: {fault.message}" for fault in assessment.faults)
    scores = {
        "naturalness": JudgeScore(assessment.score, "; ".join(faults)),
        "variety": JudgeScore(rich, f"{1 - rich:.2f} of its words come again"),
    }
    if reference is not None:
        near = closeness(text, reference)
        scores["reference"] = JudgeScore(
            min(1.0, 2 * near), f"{near:.3f} of its trigrams shared with the curated answer, doubled"
        )
    score = combine(scores, weights or JudgeWeights())
    return Judgement(assessment.natural, assessment.codes, scores, score, assessment.outside)


def combine(scores: Mapping[str, JudgeScore], weights: JudgeWeights) -> float:
    """Mean of the scores by weight; judges that gave none are left out.

    >>> scores = {"naturalness": JudgeScore(1.0, ""), "variety": JudgeScore(0.5, "")}
    >>> round(combine(scores, JudgeWeights(0.6, 0.2, 0.2, 0.0)), 3)
    0.875
    """
    counted = {name: weight for name, weight in asdict(weights).items() if weight and name in scores}
    total = sum(counted.values())
    return sum(weight * scores[name].score for name, weight in counted.items()) / total if total else 0.0


def win_shares(scores: list[float]) -> list[float]:
    """Each score's share of the others that it beats, a tie counting half; alone: 0.5.

    Raw scores of a reward model have no scale of their own and one loop far below would squeeze the rest together, so only
    their order within the prompt is used.

    >>> win_shares([-9.0, 1.5, 1.2, 1.5])
    [0.0, 0.8333333333333334, 0.3333333333333333, 0.8333333333333334]
    """
    if len(scores) < 2:
        return [0.5] * len(scores)
    return [(sum(one > other for other in scores) + 0.5 * (scores.count(one) - 1)) / (len(scores) - 1) for one in scores]


Rating = tuple[Candidate, Judgement]


@dataclass(frozen=True)
class Rated:
    """One prompt's greedy answer and its samples, judged."""

    task: PromptRow
    greedy: Rating
    samples: list[Rating]

    @property
    def ratings(self) -> list[Rating]:
        return [self.greedy, *self.samples]

    def faulty(self) -> bool:
        """Whether the greedy answer needs repair."""
        return is_faulty(self.greedy[1])

    def failures(self) -> list[Rating]:
        """The samples that need repair too, the worst first; equal texts count once."""
        worst_first = sorted((one for one in self.samples if is_faulty(one[1])), key=lambda one: one[1].score)
        return _without_repeats(one for one in worst_first if one[0].text != self.greedy[0].text)

    def fit(self, args: PairingArgs) -> list[Rating]:
        """The samples good enough to be chosen, the best first."""
        return sorted((one for one in self.samples if is_fit(one[1], args)), key=lambda one: -one[1].score)

    def with_scores(self, name: str, scores: Sequence[JudgeScore | None], weights: JudgeWeights) -> Rated:
        """With a further judge's scores, the greedy answer's first, counted in the scores; None: not asked."""
        ratings = []
        for (candidate, judgement), score in zip(self.ratings, scores, strict=True):
            known = {**judgement.by_judge, name: score} if score else judgement.by_judge
            ratings.append((candidate, replace(judgement, by_judge=known, score=combine(known, weights))))
        return Rated(self.task, ratings[0], ratings[1:])


def is_faulty(judgement: Judgement) -> bool:
    return not judgement.outside and (not judgement.natural or not judgement.relevant)


def is_fit(judgement: Judgement, args: PairingArgs) -> bool:
    """Natural, to the point, varied, and near enough to the curated answer where there is one."""
    near = judgement.by_judge.get("reference")
    return (
        judgement.natural
        and not judgement.outside
        and judgement.relevant
        and judgement.by_judge["variety"].score >= args.min_variety
        and judgement.by_judge["naturalness"].score >= args.min_chosen_score
        and (near is None or near.score >= min(1.0, 2 * args.min_closeness))  # its score is the closeness doubled
    )


def rate(
    tasks: Sequence[PromptRow],
    candidates: Mapping[str, Sequence[Candidate]],
    judges: JudgesArgs,
    pairing: PairingArgs,
    folder: Path,
    answered_by: str | ModelSource | None = None,
) -> list[Rated]:
    """Judge all candidates. The likelihood judge (`answered_by`, where the recipe names no other model) reads the natural ones,
    the reward model every one, and the endpoint compares only those that may still be chosen.

    What they say is stored in `folder`, so a killed run can go on.
    """
    rated = [_rate_cheaply(task, candidates[task.id], judges.weights) for task in tasks if candidates.get(task.id)]
    if judges.weights.likelihood and (model := judges.likelihood.model_name_or_path or answered_by):
        rated = _with_likelihood(rated, model, judges, folder / "relevance.jsonl")
    if judges.weights.reward_model:
        rated = _with_reward_model(rated, judges, folder / "reward_scores.jsonl")
    if judges.weights.llm:
        rated = _with_llm(rated, judges, pairing, folder / "llm_verdicts.jsonl")
    return rated


def _rate_cheaply(task: PromptRow, candidates: Sequence[Candidate], weights: JudgeWeights) -> Rated:
    question = last_user_text(task.prompt)
    ratings = [(one, judge(question, one.text, one.finished, task.reference, weights)) for one in candidates]
    greedy = next((place for place, one in enumerate(candidates) if one.setting == "greedy"), 0)
    return Rated(task, ratings[greedy], ratings[:greedy] + ratings[greedy + 1 :])


def _with_likelihood(rated: list[Rated], model: str | ModelSource, judges: JudgesArgs, file: Path) -> list[Rated]:
    """Faulty answers are not asked about: they are not chosen, whatever they are about."""
    from align_ko.generation.relevance import describe_relevance, is_relevant, stored_relevance

    generation = GenerationArgs(dtype=judges.likelihood.dtype, load_in_4bit=judges.likelihood.load_in_4bit)
    asked = [(one.task.prompt, candidate.text) for one in rated for candidate, judged in one.ratings if judged.natural]
    values = iter(stored_relevance(asked, model, file, generation))
    found = []
    for one in rated:
        nats = [(next(values),) if judged.natural else () for _, judged in one.ratings]
        scores = [JudgeScore(float(is_relevant(*n)), describe_relevance(*n)) if n else None for n in nats]
        found.append(one.with_scores("likelihood", scores, judges.weights))
    return found


def _with_reward_model(rated: list[Rated], judges: JudgesArgs, file: Path) -> list[Rated]:
    from align_ko.preferences.reward_model import reward_scores

    questions = [(one.task.prompt, candidate.text) for one in rated for candidate, _ in one.ratings]
    raw_scores = iter(reward_scores(questions, judges.reward_model, file))
    judged = []
    for one in rated:
        raw = [next(raw_scores) for _ in one.ratings]
        shares = zip(raw, win_shares(raw), strict=True)
        scores = [JudgeScore(share, f"{score:.3f}, above {share:.0%} of the others") for score, share in shares]
        judged.append(one.with_scores("reward_model", scores, judges.weights))
    return judged


def _with_llm(rated: list[Rated], judges: JudgesArgs, pairing: PairingArgs, file: Path) -> list[Rated]:
    """The `top` fit samples by the other judges, and the greedy answer if it is faultless; all others count as having lost."""
    from align_ko.preferences.llm_judge import LlmJudge

    compared, groups = [], []
    for one in rated:
        best = _without_repeats(one.fit(pairing))[: judges.llm.top]
        compared.append(best if one.faulty() or not best else [one.greedy, *best])
        groups.append((one.task.prompt, one.task.reference, [candidate.text for candidate, _ in compared[-1]]))
    judged = []
    lost = JudgeScore(0.0, "not compared: faulty, or not among the best by the other judges")
    for one, best, scores in zip(rated, compared, LlmJudge(judges.llm, file).compare(groups), strict=True):
        known = {id(candidate): score for (candidate, _), score in zip(best, scores, strict=True)}
        judged.append(one.with_scores("llm", [known.get(id(c), lost) for c, _ in one.ratings], judges.weights))
    return judged


def _without_repeats(ratings: Iterable[Rating]) -> list[Rating]:
    """The first of each text: cool samples often repeat one another."""
    first: dict[str, Rating] = {}
    for rating in ratings:
        first.setdefault(rating[0].text, rating)
    return list(first.values())


def judgement_rows(rated: Sequence[Rated]) -> Iterator[dict[str, object]]:
    """One row per candidate for judgements.jsonl: every judge's score and reason."""
    for one in rated:
        for candidate, judgement in one.ratings:
            scores = {name: {**asdict(v), "score": round(v.score, 4)} for name, v in judgement.by_judge.items()}
            yield {
                "id": one.task.id,
                "setting": candidate.setting,
                "text": candidate.text,
                "natural": judgement.natural,
                "faults": judgement.faults,
                "score": round(judgement.score, 4),
                "judges": scores,
            }
