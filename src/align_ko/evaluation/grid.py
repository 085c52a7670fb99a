"""The decoding gap over a whole grid of settings: what would tuned knobs still add to greedy decoding?

Pure text, no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from align_ko.evaluation.scores import GREEDY_SETTING, ScoredAnswer
from align_ko.recipe import DecodingArgs, GridArgs

SPLITS = 1000


def cells(grid: GridArgs) -> dict[str, DecodingArgs]:
    """Every combination by name, `t0.7-p0.9-r1.1`; in the order temperature, top_p, repetition_penalty."""
    every = product(grid.temperature, grid.top_p, grid.repetition_penalty)
    return {f"t{t:g}-p{p:g}-r{r:g}": DecodingArgs(t, p, r) for t, p, r in every}


def cross_fitted_gaps(scored: Iterable[ScoredAnswer]) -> dict[str, float]:
    """Model → the gap in points between the best cell and greedy: chosen on one half of the prompts, measured on the other.

    The plain gap takes the largest of many shares over the same prompts that it is measured on, so it is above zero even where
    no setting is better than greedy; this one has no such bias. Both halves of `SPLITS` random splits, always the same ones;
    cells that are equally good on a half count with their mean. Models without greedy answers or cells are left out, and so
    are prompts that not all settings have answered.
    """
    answers: dict[str, dict[str, dict[str, bool]]] = {}
    for row in scored:
        answers.setdefault(row["model"], {}).setdefault(row["setting"], {})[str(row["prompt_id"])] = bool(row["natural"])
    gaps = {}
    for model, settings in answers.items():
        prompts = sorted(set.intersection(*map(set, settings.values())))
        if GREEDY_SETTING not in settings or len(settings) < 2 or len(prompts) < 2:
            continue
        greedy = np.array([settings[GREEDY_SETTING][prompt] for prompt in prompts], dtype=float)
        others = [[settings[name][prompt] for prompt in prompts] for name in settings if name != GREEDY_SETTING]
        lead = np.array(others, dtype=float) - greedy  # cells × prompts
        gaps[model] = 100 * float(np.mean([_lead_elsewhere(lead, half) for half in _halves(len(prompts))]))
    return gaps


def _halves(n: int) -> Iterator[NDArray[np.bool_]]:
    """Both halves of every split, as what is in."""
    draw = np.random.default_rng(0)
    for _ in range(SPLITS):
        half = np.zeros(n, dtype=bool)
        half[draw.permutation(n)[: n // 2]] = True
        yield half
        yield ~half


def _lead_elsewhere(lead: NDArray[np.float64], half: NDArray[np.bool_]) -> float:
    """What the cells that lead most on `half` lead by on the rest, on average."""
    means = lead[:, half].mean(axis=1)
    best = np.isclose(means, means.max())
    return float(lead[best][:, ~half].mean())
