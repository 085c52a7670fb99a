"""The decoding gap as a table and as a heat map."""

from __future__ import annotations

from html_page import Page, in_language

from align_ko.recipe import GridArgs
from align_ko.report.gap import grid_table, heat_maps, write_gap


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
