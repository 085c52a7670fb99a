"""How good is one candidate? Natural Korean first, then: to the point, close to the reference, and rich in words.

The judges here are cheap and read one answer at a time; reward_model.py and llm_judge.py compare a prompt's answers. Each
gives 0 to 1 with a reason, and `combine` takes their mean by the recipe's weights.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise

from align_ko.korean import assess, is_relevant
from align_ko.korean.set_measures import content_pieces
from align_ko.recipe import JudgeWeights

_WORD = re.compile(r"[가-힣]+|[A-Za-z]+|\d+")


@dataclass(frozen=True)
class Verdict:
    """What one judge says of one answer."""

    score: float  # 0..1
    reason: str


@dataclass(frozen=True)
class Judgement:
    natural: bool
    faults: list[str]
    verdicts: dict[str, Verdict]  # by the judges' names in the recipe
    score: float  # what candidates are ranked by, 0..1

    @property
    def naturalness(self) -> float:
        return self.verdicts["naturalness"].score

    @property
    def variety(self) -> float:
        return self.verdicts["variety"].score

    @property
    def relevant(self) -> bool:
        return self.verdicts["relevance"].score > 0


def variety(text: str) -> float:
    """1 minus the share of words that stand in a word pair or as a two-syllable stem already used; a soft form of `filler`.

    Good written answers score above .8; an answer that turns on one phrase falls below .6:
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
    """The cheap judges' verdicts on one candidate; without a reference its judge says nothing and does not count.

    Half of the trigrams shared with the reference count as all (doubled and cut at 1): other words may say the same.
    """
    assessment = assess(text, prompt, finished)
    relevant, rich = is_relevant(prompt, text), variety(text)
    asked = sorted(content_pieces(prompt))
    verdicts = {
        "naturalness": Verdict(assessment.score, "; ".join(dict.fromkeys(f"{f.code}: {f.message}" for f in assessment.faults))),
        "variety": Verdict(rich, f"{1 - rich:.2f} of its words come again"),
        "relevance": Verdict(float(relevant), f"{'met' if relevant else 'none comes back'}: {', '.join(asked)}"),
    }
    if reference is not None:
        near = closeness(text, reference)
        verdicts["reference"] = Verdict(
            min(1.0, 2 * near), f"{near:.3f} of its trigrams shared with the curated answer, doubled"
        )
    score = combine(verdicts, weights or JudgeWeights())
    return Judgement(assessment.natural, assessment.codes, verdicts, score)


def combine(verdicts: Mapping[str, Verdict], weights: JudgeWeights) -> float:
    """Mean of the verdicts by weight; judges that said nothing are left out of it.

    >>> combine({"naturalness": Verdict(1.0, ""), "variety": Verdict(0.5, "")}, JudgeWeights(0.6, 0.2, 0.2, 0.0))
    0.875
    """
    counted = {name: weight for name, weight in asdict(weights).items() if weight and name in verdicts}
    total = sum(counted.values())
    return sum(weight * verdicts[name].score for name, weight in counted.items()) / total if total else 0.0


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
