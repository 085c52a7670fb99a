"""The reports in headless Chromium: language, theme and filters work under their own policy, and axe-core finds no fault."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_curation_report import full_facts
from test_evaluation_report import GOOD, LOOP, row
from test_gap import a_grid
from test_index import project  # noqa: F401  a fixture
from test_preferences_report import some

from align_ko.evaluation.scores import score_rows, summarise
from align_ko.preferences.build import summarize
from align_ko.report import curation, index, pairs
from align_ko.report.evaluation import write_html
from align_ko.report.gap import write_gap

pytestmark = pytest.mark.slow


def evaluation(path: Path, prompts: int) -> Path:
    """The page of two models: `base` loops on all prompts, `dpo` on every tenth, and says 신김치 to the others."""
    numbers = [(n, model) for n in range(prompts) for model in ("base", "dpo")]
    shown = score_rows([row("a", LOOP, finished=False), row("a", GOOD)])
    rows = [{**shown[model == "dpo" and n % 10 > 0], "model": model, "prompt_id": f"p{n}"} for n, model in numbers]
    write_html(path, rows, summarise(rows))
    return path


def test_a_thousand_answers_are_filtered_in_both_languages(browser: Any, tmp_path: Path) -> None:
    page, errors = browser.new_page(), []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(evaluation(tmp_path / "report.html", 500).as_uri())

    def count() -> str:
        return str(page.inner_text("#count"))

    assert count() == "500" and page.inner_text("#heldout h2") == "평가용 질문 전체"
    page.select_option("#code", "is repetition")
    assert count() == "500"
    page.select_option("#model", "dpo")
    assert count() == "50 / 500"
    card = page.locator("#heldout .card:not([hidden])").first
    assert [card.locator(f"[data-model={name}]").is_visible() for name in ("base", "dpo")] == [False, True]
    page.check("#beside")
    assert card.locator("[data-model=base]").is_visible()
    page.select_option("#code", "none")
    assert count() == "450 / 500"
    page.fill("#search", "신김치")
    assert count() == "450 / 500"
    page.fill("#search", "없는 말")
    assert count() == "0 / 500" and page.locator("#nothing").is_visible()

    page.click("#language")
    assert page.inner_text("#heldout h2") == "All held-out prompts" and page.title() == "Evaluation of Korean answers"
    assert page.inner_text("#code option:checked") == "natural in form"
    assert page.get_attribute("#search", "placeholder") == "in prompts and answers"
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != dark
    page.reload()
    assert page.inner_text("#heldout h2") == "All held-out prompts"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    page.click("#language")
    assert page.title() == "한국어 생성 평가 보고서" and page.inner_text("#code option:checked") == "모두 보기"
    assert errors == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Any, project: Path, tmp_path: Path, scheme: str, width: int) -> None:  # noqa: F811
    axe = Path(pytest.importorskip("axe_playwright_python").__file__).parent / "axe.min.js"
    write_gap(tmp_path / "gap", *a_grid())
    (tmp_path / "pairs").mkdir()
    pairs.write_report(tmp_path / "pairs", summarize(some(), Counter(), 3), some())
    (tmp_path / "curation").mkdir()
    curation.write_report(tmp_path / "curation", full_facts())
    reports = [tmp_path / name / "report.html" for name in ("gap", "pairs", "curation")]
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    for path in [evaluation(tmp_path / "report.html", 11), index.write_index(project), *reports]:
        page.goto(path.as_uri())
        page.add_script_tag(path=str(axe))
        found = [one for one in page.evaluate("axe.run()")["violations"] if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path  # nothing to scroll sideways
