"""The decoding gap over the whole grid: its cells, its prompts, its table."""

from __future__ import annotations

import pytest

from align_ko.evaluation.grid import cells, grid_table
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


def test_the_table():
    grid = GridArgs(temperature=(0.7,), top_p=(0.9, 1.0), repetition_penalty=(1.0, 1.1))
    natural = {"greedy": 0.5, "t0.7-p0.9-r1": 0.6, "t0.7-p1-r1": 0.4, "t0.7-p0.9-r1.1": 0.9, "t0.7-p1-r1.1": 0.85}
    summary = {
        "results": [{"model": "sft", "setting": name, "natural": share, "n": 100} for name, share in natural.items()],
        "decoding_gap": {"sft": {"setting": "t0.7-p0.9-r1.1", "sampling": 0.9, "greedy": 0.5, "points": 40.0, "prompts": 100}},
    }
    text = grid_table(summary, grid)
    assert "| temperature | repetition_penalty | top_p 0.9 | top_p 1 |\n|---:|---:|---:|---:|\n" in text
    assert "| 0.7 | 1 | 60.0 | 40.0 |\n| 0.7 | 1.1 | **90.0** | 85.0 |\n" in text
    assert "greedy 50.0 %, best cell t0.7-p0.9-r1.1 90.0 %: gap **40.0 points** over 100 prompts" in text
    assert "(up to 5.1 of them luck)" in text  # 5 points of standard error; the largest of 4 normals is 1.03 on average
