"""No page shows an English sentence to a reader of its Korean, and every sentence of reasons.py has one in Korean."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from string import Formatter

import pytest
from html_page import english_sentences
from test_curation_report import dropped, full_facts
from test_evaluation_report import judged_rows, with_suites
from test_gap import a_grid
from test_index import project, stage  # noqa: F401  a fixture
from test_preferences_report import some

from align_ko import reasons
from align_ko.evaluation.scores import summarise
from align_ko.korean.demands import VERIFIERS
from align_ko.preferences.build import summarize
from align_ko.report import curation, evaluation, index, pairs
from align_ko.report.gap import write_gap
from align_ko.report.korean import NAMES, SENTENCES, _pattern, in_korean

TEMPLATES = [value for name, value in vars(reasons).items() if name.isupper()]


def filled(template: str) -> str:
    """With a 3 in every place."""
    return template.format(*[3] * len([part for part in Formatter().parse(template) if part[1] is not None]))


def test_every_sentence_has_its_korean() -> None:
    assert SENTENCES.keys() == {*TEMPLATES}
    for template in TEMPLATES:
        first = next(each for each in SENTENCES if _pattern(each).fullmatch(filled(template)))
        assert first == template
    assert NAMES["demand"].keys() == VERIFIERS.keys()


@pytest.mark.parametrize(
    ("english", "korean"),
    [
        ("turn 3 is 'user', expected 'assistant'", "3번째는 '답변' 차례인데 '사용자' 발화가 왔습니다."),
        ("'answer' is missing, expected a list", "'answer'에 목록이 없습니다."),
        ("content of message 2 is a list (it calls a tool), expected text",
         "2번째 메시지는 도구를 호출하며, 내용이 텍스트가 아니라 목록입니다."),
        ("message 1 (user): phone, email", "1번째 발화(사용자): 전화번호, 이메일"),
        ("a: 9 rows wanted, 3 there. dialogue: 1,000 rows wanted, 10 there. "
         "No rows at all in knowledge: the other groups share its weight.",
         "a 그룹은 9행이 필요한데 3행이 있습니다. 대화 그룹은 1,000행이 필요한데 10행이 있습니다. 지식 그룹은 행이 하나도 없어 "
         "그 비중을 나머지 그룹에 나눕니다."),
        ("checkpoint-20: natural in form 100 %, next checkpoint-10 with 50 %, which may be chance",
         "checkpoint-20. 형식이 자연스러운 답변 100 %, 그다음은 checkpoint-10의 50 %입니다. 우연일 수 있는 차이입니다."),
        ("synthetic: assess finds no echo in the spoilt copy", "망가뜨렸으나 뜻한 결함(질문 되풀이)이 나타나지 않음"),
        ("share of filler is full", "빈말 채우기의 몫이 다 참"),
        ("data/pairs: no pair could be made of 1,015 prompts: 1,012 greedy answer is as good; 3 share of filler is full",
         "질문 1,015개에서 쌍을 하나도 만들지 못했습니다: 기본 디코딩의 답변도 충분히 좋음 1,012 · 빈말 채우기의 몫이 다 참 3"),
        ("25 more", "그 밖의 25개"),
        ("one more", "one more"),
        ("끝나지 않았습니다. …집…", "끝나지 않았습니다. …집…"),
    ],
)  # fmt: skip
def test_in_korean(english: str, korean: str) -> None:
    assert in_korean(english) == korean


def test_the_check_finds_english_where_it_is_seen() -> None:
    page = '<p>한 <b>is not</b> it</p><i title="one two three"></i><span class="en">it is not</span><code>a b c</code>'
    assert english_sentences(page) == ["one two three", "한 is not it"]
    assert english_sentences("<th>SFT</th><th>DPO</th><th>chrF · NLL</th><td>read.jsonl</td>") == []


def test_no_english_sentence_on_the_page_of_a_curation() -> None:
    facts = full_facts()
    facts["dropped_examples"] = {"roles": [dropped("roles", filled(template), {}) for template in TEMPLATES]}
    facts["mixture"]["decision"] = " ".join(filled(template) for template in TEMPLATES if template.endswith("."))
    assert english_sentences(curation.render_html(facts)) == []


def test_no_english_sentence_on_the_page_of_pairs() -> None:
    summary = summarize(some(), Counter({filled(template): 2 for template in TEMPLATES}), 9)
    assert english_sentences(pairs.render_html(summary, some())) == []


def test_no_english_sentence_on_the_page_of_an_evaluation() -> None:
    rows, summary = with_suites()
    for best in (reasons.BY_CHANCE, reasons.BETTER, reasons.AS_GOOD):
        summary["best_checkpoints"] = {"run": filled(best)}
        assert english_sentences(evaluation.render_html(rows, summary)) == []
    assert english_sentences(evaluation.render_html(judged_rows(), summarise(judged_rows()))) == []


def test_no_english_sentence_on_the_other_pages(project: Path, tmp_path: Path) -> None:  # noqa: F811
    write_gap(tmp_path / "gap", *a_grid())
    stage(project / "pairs", "preferences", "7", nothing_to_do=filled(reasons.NO_PAIR))
    for page in (tmp_path / "gap/report.html", index.write_index(project)):
        assert english_sentences(page.read_text(encoding="utf-8")) == []
