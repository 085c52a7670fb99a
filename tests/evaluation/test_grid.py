"""The decoding gap over the whole grid: its cells, its prompts, its table."""

from __future__ import annotations

from random import Random
from statistics import mean

import pytest

from align_ko.evaluation.run import cells
from align_ko.evaluation.scores import cross_fitted_gap
from align_ko.recipe import DecodingArgs, GridArgs
from align_ko.records import evenly


def test_every_setting_meets_every_other():
    every = cells(GridArgs())
    assert len(every) == 18 and len(set(every.values())) == 18
    assert list(every)[:3] == ["t0.3-p0.85-r1", "t0.3-p0.85-r1.1", "t0.3-p0.9-r1"]
    assert every["t1-p1-r1.1"] == DecodingArgs(1.0, 1.0, 1.1)


@pytest.mark.parametrize(
    ("count", "taken"), [(0, range(10)), (3, (0, 3, 6)), (4, (0, 2, 5, 7)), (10, range(10)), (99, range(10))]
)
def test_prompts_are_spread_evenly(count, taken):
    assert evenly(range(10), count) == list(taken)


def answers(**shown):
    """`greedy="1010"`: natural or not, prompt by prompt."""
    return {
        name: [{"prompt_id": f"p{place}", "natural": sign == "1"} for place, sign in enumerate(signs)]
        for name, signs in shown.items()
    }


def test_a_lead_by_chance_is_no_gap_and_a_true_one_is():
    draw = Random(0)
    plain, fitted = [], []
    for _ in range(20):  # 18 settings, greedy and all of them natural three times in four
        greedy, *cells = ("".join(draw.choice("1110") for _ in range(60)) for _ in range(19))
        plain.append((max(signs.count("1") for signs in cells) - greedy.count("1")) / 60 * 100)
        fitted.append(cross_fitted_gap(answers(greedy=greedy, **{f"t{n}": signs for n, signs in enumerate(cells)})))
    assert mean(plain) > 8
    assert abs(mean(fitted)) < 3
    # one cell is natural wherever another is not: whichever half it is chosen on, it leads by the same 25 points
    assert cross_fitted_gap(answers(greedy="1110" * 100, best="1" * 400, worst="0" * 400)) == pytest.approx(25, abs=0.1)


def test_cross_fitting_by_hand():
    # Two prompts, greedy natural on neither: each half is one prompt. a is best on p0, b on p1: each then leads by nothing.
    assert cross_fitted_gap(answers(greedy="00", a="10", b="01")) == 0.0
    # c is natural on both: on p0 a and c are equally good and lead on p1 by 0 and 1, so 50; on p1 only c, which leads by 1.
    assert cross_fitted_gap(answers(greedy="00", a="10", c="11")) == pytest.approx(75.0)
    assert cross_fitted_gap(answers(greedy="01")) is None
    assert cross_fitted_gap(answers(greedy="0", a="1")) is None
    assert cross_fitted_gap(answers(a="01", b="11")) is None
