"""The decoding gap over the whole grid: its cells, its prompts, its table."""

from __future__ import annotations

from random import Random
from statistics import mean

import pytest
from html_page import Page, in_language

from align_ko.evaluation.run import cells
from align_ko.evaluation.scores import cross_fitted_gap
from align_ko.recipe import DecodingArgs, GridArgs
from align_ko.records import evenly
from align_ko.report.gap import grid_table, heat_maps, write_gap


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


def a_grid():
    grid = GridArgs(temperature=(0.7,), top_p=(0.9, 1.0), repetition_penalty=(1.0, 1.1))
    natural = {"greedy": 0.5, "t0.7-p0.9-r1": 0.6, "t0.7-p1-r1": 0.4, "t0.7-p0.9-r1.1": 0.9, "t0.7-p1-r1.1": 0.85}
    summary = {
        "results": [
            {
                "model": "sft",
                "setting": name,
                "natural": share,
                "n": 100,
                "relevant": None,
                "natural_low": 0.4,
                "natural_high": 0.6,
            }
            for name, share in natural.items()
        ],
        "decoding_gap": {
            "sft": {
                "setting": "t0.7-p0.9-r1.1",
                "sampling": 0.9,
                "greedy": 0.5,
                "points": 40.0,
                "cross_fitted": 38.4,
                "prompts": 100,
            }
        },
    }
    return summary, grid


def test_the_table():
    summary, grid = a_grid()
    text = grid_table(summary, grid)
    assert "relevant: greedy -, best cell -." in text
    assert "| temperature | repetition_penalty | top_p 0.9 | top_p 1 |\n| ---: | ---: | ---: | ---: |\n" in text
    assert "| 0.7 | 1 | 60.0 | 40.0 |\n| 0.7 | 1.1 | **90.0** | 85.0 |\n" in text
    assert "greedy 50.0 %, best cell t0.7-p0.9-r1.1 90.0 %: gap **40.0 points** over 100 prompts" in text
    assert "over 100 prompts, **38.4** with the cell chosen on other prompts.\n" in text
    del summary["decoding_gap"]["sft"]["cross_fitted"]  # as with a single prompt, of which there are no two halves
    assert "gap **40.0 points** over 100 prompts.\n" in grid_table(summary, grid)


def test_the_heat_map(tmp_path):
    summary, grid = a_grid()
    rows = heat_maps(summary, grid)["sft"].rows
    assert [(t, r, [round(cell.lead, 2) for cell in cells]) for t, r, cells in rows] == [
        (0.7, 1.0, [0.1, -0.1]), (0.7, 1.1, [0.4, 0.35]),
    ]  # fmt: skip
    assert [cell.strength for _, _, cells in rows for cell in cells] == [50, 50, 100, 100]
    table = write_gap(tmp_path, summary, grid)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "gap.md").read_text(encoding="utf-8") == f"# Decoding gap\n\n{table}"
    assert page.count('class="cell up') == 3 and page.count('class="cell down') == 1
    assert '<td class="cell up best" style="--s:100"><b>90%</b> <small>+40%p</small></td>' in page
    assert Page(page).tags and "greedy 50% · 가장 좋은 설정 90% (t0.7-p0.9-r1.1) · 질문 100개" in in_language(page)
    summary["decoding_gap"] = {}
    write_gap(tmp_path, summary, grid)
    assert "비교할 답변이 없습니다." in (tmp_path / "report.html").read_text(encoding="utf-8")


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
