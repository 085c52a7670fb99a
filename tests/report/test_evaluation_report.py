"""Evaluation: what the numbers are, and what the report does with answers nobody should trust."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from html_page import Page, in_language
from rich.console import Console

from align_ko.evaluation.scores import ScoredAnswer, Summary, chrf, score_rows, summarise, wilson
from align_ko.evaluation.suites import best_checkpoints, measure_suites
from align_ko.korean import FAULT_CODES
from align_ko.records import Fault
from align_ko.report.evaluation import (
    STRIP_HEIGHT,
    closing,
    fault_bars,
    length_strips,
    markdown_summary,
    render_html,
    show,
    write_html,
)
from align_ko.report.korean import FAULT_NAMES
from align_ko.report.page import CLIP, clip_at, pieces, segments
from align_ko.report.tables import MEASURE_LABELS, measure_cells

GOOD = "김치찌개는 잘 익은 신김치를 먼저 볶아야 맛이 깊어집니다. 멸치 육수를 붓고 20분쯤 끓이세요."
OTHER = "불국사는 신라 경덕왕 때인 751년에 김대성이 다시 크게 짓기 시작한 절입니다."
LOOP = "나는 학교에 간다. " * 40
COOL = "temperature=0.7 top_p=0.9 repetition_penalty=1.1"


def row(prompt_id: str, response: str, model: str = "dpo", setting: str = "greedy", **changes: Any) -> dict[str, Any]:
    asked = {"a": "김치찌개 끓이는 방법을 알려 주세요.", "b": "불국사는 언제 지었나요?"}.get(prompt_id, f"질문 {prompt_id}")
    return {
        "model": model,
        "setting": setting,
        "decoding": "greedy" if setting == "greedy" else COOL,
        "kind": "heldout",
        "prompt": [{"role": "user", "content": asked}],
        "prompt_id": prompt_id,
        "group": "instruction",
        "topic": "요리",
        "reference": None,
        "response": response,
        "finished": True,
        "tokens": len(response) // 2,
        **changes,
    }


def some_rows() -> list[dict[str, Any]]:
    """A base that loops, a dpo that answers one of two greedily and everything by sampling."""
    return [
        row("a", LOOP, "base", finished=False, tokens=256, reference=GOOD, relevant=False),
        row("b", "", "base", tokens=1, reference=OTHER, relevant=False),
        row("a", GOOD, reference=GOOD, nats_per_token=0.9, relevant=True),
        row("b", OTHER[:-4], reference=OTHER, nats_per_token=0.06, relevant=True),  # cut before its last syllables
        row("a", GOOD, setting="sampling_cool"),
        row("b", OTHER, setting="sampling_cool"),
        row("안녕하세요", LOOP, kind="probe"),
    ]


# -------------------------------------------------------------------------------------------------------------- scores


def test_score_rows_adds_the_verdict_and_leaves_its_input_alone() -> None:
    given = row("a", "물를 끓여 드세요. 김치를 먼저 볶으시면 됩니다.")
    before = dict(given)
    (scored,) = score_rows([given])
    assert given == before and before.items() <= scored.items()
    assert {k: scored[k] for k in ("natural", "score", "speech_level")} == {
        "natural": True, "score": 0.5563, "speech_level": "polite",
    }  # fmt: skip
    (fault,) = scored["faults"]
    assert (fault["code"], fault["start"], fault["end"]) == ("wrong_particle", 1, 2)
    assert "을" in fault["message"]


def test_an_answer_is_judged_against_the_last_question() -> None:
    turns = [("user", "경주에 가려고 해요."), ("assistant", "좋은 생각이에요."), ("user", "김치찌개 끓이는 방법은요?")]
    prompt = [{"role": role, "content": text} for role, text in turns]
    known = score_rows([row("a", "김치찌개 끓이는 방법은요?", prompt=prompt), row("a", "경주에 가려고 해요.", prompt=prompt)])
    assert [[fault["code"] for fault in one["faults"]] for one in known] == [["echo"], []]


def test_summarise_exactly() -> None:
    summary = summarise(score_rows(some_rows()), {"dpo": 2.5})
    base, greedy, cool = summary["results"]
    assert [(r["model"], r["setting"], r["decoding"], r["n"]) for r in summary["results"]] == [
        ("base", "greedy", "greedy", 2), ("dpo", "greedy", "greedy", 2), ("dpo", "sampling_cool", COOL, 2),
    ]  # fmt: skip
    assert (base["natural"], greedy["natural"], cool["natural"]) == (0.0, 0.5, 1.0)
    assert base["faults"].keys() == set(FAULT_CODES)
    assert {code: share for code, share in base["faults"].items() if share} == {
        "empty": 0.5, "repetition": 0.5, "unfinished": 0.5, "wrong_register": 0.5,
    }  # fmt: skip
    assert {code: share for code, share in greedy["faults"].items() if share} == {"unfinished": 0.5}
    assert (base["loops"], base["filler"], base["unfinished"], base["finished"]) == (0.5, 0.0, 0.5, 0.5)
    assert (greedy["distinct"], greedy["collapse"], greedy["relevant"], base["relevant"]) == (1.0, 0.0, 1.0, 0.0)
    assert cool["relevant"] is None  # not measured
    assert (base["median_characters"], base["mean_characters"], base["median_tokens"]) == (220, 220, 128.5)
    assert (cool["chrf"], base["reference_nll"], greedy["reference_nll"]) == (None, None, 2.5)
    assert greedy["chrf"] == pytest.approx(chrf([GOOD, OTHER[:-4]], [GOOD, OTHER]))
    assert summary["decoding_gap"] == {
        "dpo": {"setting": "sampling_cool", "prompts": 2, "greedy": 0.5, "sampling": 1.0, "points": 50.0, "cross_fitted": 50.0}
    }
    assert summary["small_sample"] is True


def test_gap_is_taken_over_the_prompts_both_answered() -> None:
    rows = [row(str(n), GOOD if n < 6 else LOOP) for n in range(10)]
    rows += [row(str(n), GOOD, setting="sampling_cool") for n in (0, 1, 8, 9)]
    rows += [row(str(n), LOOP, setting="sampling_warm") for n in range(10)]
    summary = summarise(score_rows(rows))
    assert summary["decoding_gap"]["dpo"] == {
        "setting": "sampling_cool", "prompts": 4, "greedy": 0.5, "sampling": 1.0, "points": 50.0, "cross_fitted": 50.0,
    }  # fmt: skip
    assert summarise(score_rows(rows[:10]))["decoding_gap"] == {}


def test_wilson_against_published_values() -> None:
    """Newcombe 1998, table I: method 3."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), bounds in published.items():
        assert wilson(successes, n) == pytest.approx(bounds, abs=6e-5)
    assert wilson(60, 60) == pytest.approx((0.9398, 1.0), abs=6e-5)


@pytest.mark.parametrize(
    ("hypotheses", "references", "score"),
    [
        # sacrebleu 2.6.0, CHRF().corpus_score(hypotheses, [references])
        (
            ["김치찌개는 신 김치로 끓여야 맛있습니다."],
            ["김치찌개는 잘 익은 김치로 끓이면 맛있어요."],
            27.380008526936546,
        ),
        (
            ["서울은 대한민국의 수도입니다.", "네."],
            ["대한민국의 수도는 서울입니다.", "네, 맞습니다."],
            42.104540974156045,
        ),
        (["the cat sat on the mat"], ["the cat is on the mat"], 64.5779420625287),
        (["네."], ["물은 100도에서 끓습니다."], 4.62962962962963),
        # by hand: 1-grams 2/3, 2-grams 1/2, 3-grams 0/1 → both means 7/18
        (["abc"], ["abd"], 100 * 7 / 18),
        ([""], ["물"], 0.0),
        ([GOOD], [GOOD], 100.0),
    ],
)
def test_chrf(hypotheses: list[str], references: list[str], score: float) -> None:
    assert chrf(hypotheses, references) == pytest.approx(score, abs=1e-9)


def test_scores_and_report_need_no_torch() -> None:
    code = "import sys, align_ko.evaluation.scores, align_ko.report.evaluation; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --------------------------------------------------------------------------------------------------------------- table


def test_table_has_greedy_first_fits_80_columns_and_closes_in_plain_words() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    summary = summarise(score_rows(some_rows()), {"base": 3.41, "dpo": 2.5})
    show(summary, console)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    text = "\n".join(lines)
    body = [line.split() for line in lines if line.startswith(("base", "dpo"))]
    assert [cells[:4] for cells in body] == [
        ["base", "greedy", "0", "(0-66)"], ["dpo", "greedy", "50", "(9-91)"], ["dpo", "cool", "100", "(34-100)"],
    ]  # fmt: skip
    assert body[0][-1] == "3.41" and "…" not in text
    assert f"cool: {COOL}" in lines
    assert closing(summary) == [
        "greedy: base 0 % → dpo 50 % natural in form; gap to the best sampling setting dpo 50 points.",
        "relevant: base 0 % → dpo 100 %",
        "llm: not judged",
        "reader: not judged",
        "2 prompts is few: a share is known to within about ±41 points (95 % Wilson interval in brackets).",
    ]


def judged_rows() -> list[Any]:
    """some_rows, of which the model read dpo's greedily given answers, and a person read one of them."""
    scored = score_rows(some_rows())
    for answer, readings in zip(scored[2:4], ([2, 2], [2, 0]), strict=True):
        answer["llm"] = readings
    scored[2]["reader"] = [1]
    return scored


def test_what_judges_of_content_say_is_beside_the_natural_share() -> None:
    summary = summarise(judged_rows())
    assert closing(summary)[2:4] == [
        "llm would sign, in %: dpo greedy 50 (9-91) of 2, 50 split; not judged: base greedy, dpo cool",
        "reader would sign, in %: dpo greedy 0 (0-79) of 1; not judged: base greedy, dpo cool",
    ]
    cells = dict(zip(MEASURE_LABELS, measure_cells(summary["results"][1]), strict=True))
    assert list(cells)[:4] == ["natural in form (95 %)", "relevant", "llm would sign (95 %)", "reader would sign (95 %)"]
    assert list(cells.values())[:4] == ["50 (9-91)", "100", "50 (9-91) of 2, 50 split", "0 (0-79) of 1"]
    assert measure_cells(summary["results"][0])[2:4] == ["not judged", "not judged"]


def test_the_page_never_shows_the_natural_share_alone() -> None:
    page = in_language(render_html(judged_rows(), summarise(judged_rows())))
    assert re.findall(r'<td class="verdicts">(.*?)</td>', page) == [
        "판정하지 않음", "판정하지 않음", "50% <small>9–91, 2개, 불일치 50%</small>", "0% <small>0–79, 1개</small>",
        "판정하지 않음", "판정하지 않음",
    ]  # fmt: skip
    tiles = re.findall(r"<span class=\"sub\">((?:관련|독자).*?)</span>", page)
    assert tiles == [
        "관련 0% · LLM 판정하지 않음", "독자 판정하지 않음", "관련 100% · LLM 50% <small>9–91, 2개, 불일치 50%</small>",
        "독자 0% <small>0–79, 1개</small>",
    ]  # fmt: skip
    badges = re.findall(r'<span class="badge (\w+)">((?:LLM|독자) .*?)</span>', page)
    assert badges == [("good", "LLM 2·2"), ("minor", "독자 1"), ("bad", "LLM 2·0")]
    assert "원어민" not in page and "형식이 자연스러운 답변의 비율</h1>" in page


def test_the_longest_name_and_interval_of_the_quickstart_stay_on_one_line() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    summary = summarise(score_rows(some_rows()), {"base": 3.41, "dpo": 2.5})
    for result in summary["results"]:
        result |= {"model": "distilled", "natural": 1.0, "natural_low": 0.94, "natural_high": 1.0}
    show(summary, console)
    rows = [line.split() for line in console.export_text().splitlines() if line.startswith("distil")]
    assert [cells[0] for cells in rows] == ["distilled"] * 3 and all(cells[2:4] == ["100", "(94-100)"] for cells in rows)


def test_a_name_from_a_recipe_is_no_markup_and_no_terminal_code() -> None:
    scored = score_rows([row(f"p{n}", "네, 그렇습니다.", "[/red]\x1b[2J") for n in range(3)])
    out = io.StringIO()
    show(summarise(scored), Console(file=out, width=160))
    assert "[/red][U+001B][2J" in out.getvalue() and "\x1b" not in out.getvalue()


def with_suites() -> tuple[list[ScoredAnswer], Summary]:
    asked = {"suite": "instructions", "demands": [{"demand": "items", "count": 2}, {"demand": "no_latin"}]}
    rows = [row("a", GOOD, suite="core"), row("b", GOOD, **asked), row("c", "- 물입니다.\n- 불입니다.", **asked)]
    scored = score_rows([one | {"model": f"run/checkpoint-{step}"} for step in (1, 2) for one in rows])
    summary = summarise(scored)
    summary["suites"] = measure_suites(scored)
    summary["best_checkpoints"] = best_checkpoints(summary["results"], summary["suites"])
    return scored, summary


def test_each_suite_has_a_line_and_the_best_checkpoint_is_named() -> None:
    _, summary = with_suites()
    console = Console(width=100, record=True, file=io.StringIO())
    show(summary, console)
    text = console.export_text()
    lines = [line.split() for line in text.splitlines() if line.startswith("instructions")]
    whole = ["100", "(34-100)"]
    assert [line[2:] for line in lines] == [["2", *whole, "75", "%", "of", "4", "50", "(9-91)"]] * 2
    assert "best checkpoint of run: checkpoint-1: as good as checkpoint-2, and earlier" in text
    plain = Console(width=100, record=True, file=io.StringIO())
    show(summarise(score_rows(some_rows())), plain)
    assert "Suites" not in plain.export_text()


def test_the_page_shows_suites_and_what_was_not_met() -> None:
    scored, summary = with_suites()
    page = in_language(render_html(scored, summary))
    assert page.count("지키지 않음: 항목 수") == 2 and "지키지 않음: 로마자" not in page
    assert "<td>4개 중 75%</td>" in page and "가장 좋은 체크포인트: checkpoint-1. checkpoint-2에 뒤지지 않으면서" in page


def test_table_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(summarise([]), Console())
    assert capsys.readouterr().out == "No held-out answers to show.\n"


def test_the_summary_for_a_pull_request() -> None:
    _, summary = with_suites()
    summary["results"][0]["model"] = "a|b\x1b[2J<img src=x>"
    text = markdown_summary(summary)
    lines = text.splitlines()
    assert lines[0] == "### Korean answers under default decoding" and "- llm: not judged" in lines
    tables = [[line for line in part.splitlines() if line.startswith("|")] for part in text.split("\n\n") if "| --- |" in part]
    assert [len(table) for table in tables] == [4, 6] and tables[0][0].startswith(
        "| model | decoding | prompts | natural in form"
    )
    assert tables[0][2].startswith(r"| a\|b\[U+001B\]\[2J\<img src=x\> | greedy | 3 | 100 (44-100) |")
    assert tables[1][4] == "| instructions | run/checkpoint-1 | 2 | 100 (34-100) | 75 % of 4 | 50 (9-91) |"
    assert markdown_summary(summarise([])).count("|") == 0


# ---------------------------------------------------------------------------------------------------------------- html


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> \"'& {} {0} \x00\x1b[2J\u202e"


def test_html_escapes_everything_that_came_from_data() -> None:
    rows = [row("a", EVIL, EVIL, group=EVIL, topic=EVIL, reference=EVIL, decoding=EVIL)]
    twice = [{"role": "user", "content": EVIL}] * 2
    rows += [row("b", EVIL, EVIL, kind=kind, prompt=twice) for kind in ("heldout", "probe")]
    scored = score_rows(rows)
    scored[0]["faults"] = [{"code": EVIL, "start": 0, "end": 30, "message": EVIL}]
    page = render_html(scored, summarise(scored), {EVIL: EVIL})
    assert "alert(1)" in page and "<script>alert" not in page and "<img" not in page
    assert "[U+001B][2J" in page and not re.search("[\x00-\x08\x0b-\x1f\u202e]", page)
    parsed = Page(page)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


def test_the_page_lets_only_its_own_script_run() -> None:
    page = render_html(score_rows(some_rows()), summarise([]))
    (script,) = re.findall("<script>(.*?)</script>", page, re.S)
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in page


def test_both_languages_are_whole() -> None:
    page = render_html(judged_rows(), summarise(judged_rows()))
    english = re.sub("<[^>]*>", "", re.sub(r"<title.*?</title>|<option.*?</option>", "", in_language(page, "en")))
    assert not set(re.findall("[가-힣]+", english)) - set(re.findall("[가-힣]+", str(judged_rows()))) - {"한국어"}
    assert "split 50%" in english and "not judged" in english and "wrong register" in english


def test_what_was_not_measured_has_no_unit() -> None:
    page = render_html(score_rows(some_rows()), summarise(score_rows(some_rows())))
    assert page.count("<td>-</td>") == 5 and "-%" not in page  # relevant, and four losses and chrF


def test_html_is_self_contained() -> None:
    scored = score_rows(some_rows())
    page = render_html(scored, summarise(scored))
    parsed = Page(page)
    assert not any({"src", "href", "srcset", "data", "action"} & attributes.keys() for _, attributes in parsed.tags)
    assert not re.search(r"https?://|url\(|@import", page)
    assert page.lstrip().startswith("<!doctype html>")
    assert any((attributes.get("content") or "").startswith("default-src 'none'") for _, attributes in parsed.tags)


def test_every_answer_is_whole_in_the_page() -> None:
    """Clipped and marked, but not a character lost or doubled."""
    text = "  첫 줄\n\n\n" + LOOP + "\n"
    scored = score_rows([row("a", text, finished=False)])
    page = in_language(render_html(scored, summarise(scored)))
    (shown,) = re.findall(r'<div class="text" lang="ko">(.*?)</div>(?=\s*<ul)', page, re.S)
    assert '<details class="more">' in shown
    assert re.sub(r"<[^>]+>", "", re.sub("<summary>.*</summary>", "", shown)) == text
    (loop,) = [fault for fault in scored[0]["faults"] if fault["code"] == "repetition"]
    assert text[loop["start"] : loop["end"]] in "".join(Page(page).marks)


def fault(start: int, end: int, message: str, code: str = "repetition") -> Fault:
    return Fault(code, start, end, message)


def test_overlapping_faults_are_cut_not_nested() -> None:
    text = "가나다라마바사아"
    faults = [fault(1, 5, "첫째"), fault(3, 7, "둘째"), fault(3, 4, "셋째"), fault(8, 8, "빈 구간")]
    faults.append(fault(0, 8, "전체", "wrong_register"))
    parts = segments(text, faults)
    assert [(part.text, part.tip) for part in parts] == [
        ("가", ""), ("나다", "첫째"), ("라", "첫째 / 둘째 / 셋째"), ("마", "첫째 / 둘째"), ("바사", "둘째"), ("아", ""),
    ]  # fmt: skip
    assert "".join(part.text for part in parts) == text
    shown = [part for piece in pieces(parts, 2)[0] for part in piece.parts]  # the limit is inside a fault
    assert [(part.text, part.tip) for part in shown] == [("가", ""), ("나", "첫째")]
    assert segments("", []) == []
    assert "".join(part.text for part in segments(text, [fault(2, 99, "밖")])) == text


def test_clip() -> None:
    assert clip_at(GOOD) == len(GOOD)
    assert CLIP - 30 <= clip_at(LOOP) <= CLIP and LOOP[clip_at(LOOP) - 1] == " "
    assert clip_at("가" * 1000) == CLIP
    assert clip_at("네\n" * 200) == 23


def test_sampling_that_answered_fewer_prompts_and_a_page_without_held_out_rows(tmp_path: Path) -> None:
    rows = some_rows()[:5]
    scored = score_rows(rows)
    assert render_html(scored, summarise(scored)).count("이 디코딩으로는 답변을 만들지 않았습니다.") == 3
    probes = score_rows([row("안녕하세요", "안녕하세요! 무엇을 도와드릴까요?", kind="probe")])
    write_html(tmp_path / "report.html", probes, summarise(probes))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "형식이 자연스러움 ✓" in page and "모든 측정값" not in page
    Page(page)


def test_every_fault_has_a_korean_name() -> None:
    assert FAULT_NAMES.keys() == set(FAULT_CODES)


def test_plots() -> None:
    scored = score_rows(some_rows())
    summary = summarise(scored)
    assert fault_bars([result for result in summary["results"] if result["setting"] == "greedy"]) == {
        "unfinished": {"base": 0.5, "dpo": 0.5}, "empty": {"base": 0.5, "dpo": 0}, "repetition": {"base": 0.5, "dpo": 0},
        "wrong_register": {"base": 0.5, "dpo": 0},
    }  # fmt: skip
    page = in_language(render_html(scored, summary))
    assert "<h3>base</h3>" in page and "<h3>dpo <small>격차 +50%p</small></h3>" in page
    ticks, strips = length_strips(scored)
    assert [strip.model for strip in strips] == ["base", "dpo", None]
    assert [len(strip.dots) for strip in strips] == [2, 2, 2]
    assert [length for _, length in ticks] == [0, 100, 200, 300, 400, 500]
    assert strips[0].median == 220 and strips[0].median_x == 44
    many = score_rows([row(str(n), "네, 그렇습니다.") for n in range(300)])
    dots = length_strips(many)[1][0].dots
    assert all(0 < y < STRIP_HEIGHT for _, y, _ in dots)
