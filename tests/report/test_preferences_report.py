"""The report before training: its numbers, its advice, and a page that nothing from the data can break."""

from __future__ import annotations

import io
import json
import re
from collections import Counter

import pytest
from html_page import Page, in_language
from rich.console import Console
from test_pairing import GOOD, LOOP, OTHER, pair, said, user

from align_ko.preferences.build import gap_of, summarize
from align_ko.records import PreferencePair
from align_ko.report.pairs import advise, examples, render_html, show, write_report


def numbers(pairs=2000, gap=0.0, collapse=0.0, curated=0.0):
    return {
        "pairs": pairs, "mean_characters": {"chosen": 100 * (1 + gap), "rejected": 100.0}, "length_gap_share": gap,
        "chosen": {"collapse": collapse}, "off_policy_share": curated,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "advised"),
    [
        ({}, {"loss_type": "[sigmoid_norm]", "beta": "5.0"}),
        ({"pairs": 999}, {"loss_type": "[sigmoid_norm, sft]", "loss_weights": "[1.0, 1.0]", "beta": "5.0"}),
        ({"collapse": 0.031}, {"loss_type": "[sigmoid_norm, sft]", "loss_weights": "[1.0, 1.0]", "beta": "5.0"}),
        ({"gap": 0.21}, {"loss_type": "[sigmoid_norm]", "beta": "5.0"}),
        ({"gap": -0.2}, {"loss_type": "[sigmoid_norm]", "beta": "5.0"}),
        ({"gap": -0.21}, {"loss_type": "[sigmoid]", "ld_alpha": "0.5"}),
        ({"curated": 0.51}, {"loss_type": "[sigmoid_norm]", "beta": "5.0", "use_weighting": "true"}),
        (  # the recipe check refuses use_weighting beside sft
            {"pairs": 999, "curated": 0.9},
            {"loss_type": "[sigmoid_norm, sft]", "loss_weights": "[1.0, 1.0]", "beta": "5.0"},
        ),
        (
            {"pairs": 5, "gap": 0.5},
            {"loss_type": "[sigmoid_norm, sft]", "loss_weights": "[1.0, 1.0]", "beta": "5.0"},
        ),
    ],
)
def test_the_advice_follows_its_thresholds(given, advised):
    rules = advise(numbers(**given))
    assert {rule.key: rule.value for rule in rules} == advised
    assert all(all(rule) for rule in rules)


def test_every_advised_key_is_one_that_dpo_takes():
    from align_ko.recipe.record import config_fields

    known = config_fields("DPOConfig")
    cases = [numbers(5, -1, 1.0, 1.0), numbers(5, 1, 1.0, 1.0), numbers(2000, 0, 0.0, 1.0)]
    advised = {rule.key for case in cases for rule in advise(case)}
    assert advised == {"loss_type", "loss_weights", "beta", "ld_alpha", "use_weighting"} and advised <= set(known)


def some():
    spoilt = PreferencePair(
        user("2번 질문입니다"), said(OTHER), said(OTHER[:30]), "c", "synthetic", 1.0, 0.5, [], ["unfinished"], "reference",
        "spoilt: unfinished", False,
    )  # fmt: skip
    return [pair(1, GOOD, LOOP, faults=["unfinished", "repetition"]), pair(3, GOOD[:20], OTHER, faults=["filler"]), spoilt]


def test_the_numbers():
    summary = summarize(some(), Counter({"both sides nearly the same": 4}), 9)
    assert (summary["prompts"], summary["pairs"], summary["dropped"]) == (9, 3, {"both sides nearly the same": 4})
    assert summary["origin"] == {"repair": 2, "synthetic": 1}
    assert summary["rejected_for"] == {"repetition": 1, "filler": 1, "unfinished": 1}
    assert summary["rejected_faults"] == {"unfinished": 2, "repetition": 1, "filler": 1}
    assert {"origin": "synthetic", "fault": "unfinished", "pairs": 1} in summary["origin_and_fault"]
    lengths = [(len(GOOD), len(LOOP)), (20, len(OTHER)), (len(OTHER), 30)]
    means = [round(sum(side) / 3, 1) for side in zip(*lengths, strict=True)]
    assert list(summary["mean_characters"].values()) == means
    assert summary["length_gap_share"] == round(means[0] / means[1] - 1, 4)
    assert summary["off_policy_share"] == 0.3333 and summary["rejected_unfinished"] == 1
    assert sum(count for _, count in summary["length_gaps"]) == 3 and len(summary["length_gaps"]) == 10
    assert summary["chosen"]["answers"] == 3 and summary["chosen"]["distinct"] == 1.0


@pytest.mark.parametrize(
    ("chosen", "rejected", "low"), [(10, 10, 0.0), (10, 5, 0.4), (5, 10, -0.6), (9, 10, -0.2), (1, 0, 0.8)]
)
def test_each_gap_falls_into_its_bin(chosen, rejected, low):
    one = pair(1, "가" * chosen, "나" * rejected)
    assert [value for value, count in summarize([one], Counter(), 1)["length_gaps"] if count] == [low]
    assert gap_of(one) == (chosen - rejected) / max(chosen, rejected)


def test_thirty_random_pairs_and_always_the_same():
    pairs = [pair(n) for n in range(50)]
    shown = examples(pairs)
    assert len(shown) == 30 == len({one.id for one in shown}) and examples(pairs[::-1]) == shown
    assert [one.id for one in shown] != sorted(one.id for one in shown)
    assert len(examples(pairs[:3])) == 3


def test_the_page_underlines_faults_and_escapes_everything(tmp_path):
    evil = "<script>alert(1)</script> {{ 7*7 }} & \"'"
    pairs = [
        pair(1, GOOD + " " + evil, LOOP, prompt=[*user("앞선 질문 " + evil), *said("답 " + evil), *user("경복궁은? " + evil)]),
        pair(2, GOOD, "", faults=["empty"]),
        *some(),
    ]
    summary = summarize(pairs, Counter({"share of filler is full": 2}), 7)
    write_report(tmp_path, summary, pairs, "my <recipe>")
    html = (tmp_path / "report.html").read_text()
    page, html = Page(html), in_language(html)
    assert "<script" not in html and html.count("&lt;script&gt;") == 4 and "{{ 7*7 }}" in html and "my &lt;recipe&gt;" in html
    assert any(mark.startswith("경복궁은 경복궁입니다.") for mark in page.marks)
    assert "선호 쌍 5개" in html and "빈말 채우기의 몫이 다 참" in html and "(빈 답변)" in html
    assert "망가뜨림 (미완결)" in html and "끝맺지 않은 채로 둠" in html and "앞선 대화 2개 보기" in html
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == json.loads(json.dumps({**summary, "advice": [rule._asdict() for rule in advise(summary)]}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_no_heading_is_empty():
    nameless = [*some(), pair(9, prompt=user(" "))]  # a pair of somebody else's: no question, nobody's answers
    assert not nameless[-1].chosen_by
    html = render_html(summarize(nameless, Counter(), 4), nameless)
    assert re.findall(r"<(h\d)[^>]*>\s*</\1>", html) == [] and "기록 없음" in html


def test_the_page_says_so_where_nothing_was_dropped():
    assert "빠진 것이 없습니다." in render_html(summarize(some(), Counter(), 3), some())


def test_the_terminal_shows_numbers_advice_and_a_pair():
    out = io.StringIO()
    pairs = [pair(1, "[red]좋은 답[/red]입니다.", LOOP)]
    show(summarize(pairs, Counter(), 1), pairs, Console(file=out, width=100))
    shown = out.getvalue()
    assert "1 pairs from 1 prompts" in shown and "advice loss_type: [sigmoid, sft]" in shown and "[red]좋은 답[/red]" in shown
