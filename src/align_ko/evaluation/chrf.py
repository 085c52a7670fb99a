"""chrF2 (Popović 2015): character n-gram F-score of answers against references, as sacreBLEU computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

ORDER = 6
BETA = 2.0  # recall counts beta times as much as precision


def _grams(text: str, order: int) -> Counter[str]:
    return Counter(text[i : i + order] for i in range(len(text) - order + 1))


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Corpus chrF2, 0..100: n-grams of 1 to 6 characters, white space removed, counts summed over all pairs first.

    >>> round(chrf(["abc"], ["abd"]), 2)
    38.89
    """
    precisions: list[float] = []
    recalls: list[float] = []
    pairs = [("".join(h.split()), "".join(r.split())) for h, r in zip(hypotheses, references, strict=True)]
    for order in range(1, ORDER + 1):
        said = wanted = matched = 0
        for hypothesis, reference in pairs:
            ours, theirs = _grams(hypothesis, order), _grams(reference, order)
            said += ours.total() if theirs else 0  # a reference too short for this order says nothing of precision
            wanted += theirs.total()
            matched += (ours & theirs).total()
        if said and wanted:
            precisions.append(matched / said)
            recalls.append(matched / wanted)
    if not any(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
