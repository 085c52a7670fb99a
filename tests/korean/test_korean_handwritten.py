"""Precision and recall of `assess` on tests/data/naturalness.jsonl, and that no text makes it raise.

The file holds 330 short texts written for this project: 152 clean ones, most of them with something that looks like a
fault, and 178 with the faults a native speaker would name. Tolerance on the clean ones: one of 152.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_ko.korean import FAULT_CODES, assess

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "naturalness.jsonl").read_text(encoding="utf-8").split("\n")
    if line
]
CLEAN = [row for row in ROWS if not row["faults"]]
# code → (least precision, least recall): what was measured, so that a step back shows
BOUNDS = {
    "empty": (1.0, 1.0),
    "not_korean": (1.0, 1.0),
    "repetition": (1.0, 1.0),
    "template_leak": (1.0, 1.0),
    "echo": (1.0, 1.0),
    "unfinished": (1.0, 0.95),
    "strange_characters": (1.0, 1.0),
    "wrong_register": (1.0, 1.0),
    "mixed_register": (1.0, 1.0),
    "filler": (0.95, 1.0),
    "chat_slang": (1.0, 1.0),
    "too_short": (1.0, 1.0),
    "wrong_particle": (1.0, 0.94),
}
ELSEWHERE = {"too_long", "translationese", "code_switching", "no_answer", "spacing", "honorific", "grammar"}
"""Codes with tests of their own (test_korean_form.py)."""


def test_the_set_is_what_it_says() -> None:
    assert (len(ROWS), len(CLEAN)) == (330, 152)
    named = {code for row in ROWS for code in row["faults"]}
    assert named == set(BOUNDS) == set(FAULT_CODES) - ELSEWHERE
    assert len({row["response"] for row in ROWS}) == len(ROWS)


@pytest.fixture(scope="module")
def found() -> list[tuple[set[str], set[str]]]:
    """(named by a reader, found) of every text."""
    return [(set(row["faults"]), set(assess(row["response"], row["prompt"]).codes)) for row in ROWS]


@pytest.mark.parametrize("code", BOUNDS)
def test_precision_and_recall(code: str, found: list[tuple[set[str], set[str]]]) -> None:
    both = sum(code in named and code in said for named, said in found)
    precision = both / max(1, sum(code in said for _, said in found))
    recall = both / sum(code in named for named, _ in found)
    least_precision, least_recall = BOUNDS[code]
    assert precision >= least_precision, Counter(code for named, said in found for code in said - named)
    assert recall >= least_recall


def test_clean_texts_stay_clean() -> None:
    results = [(row["response"], assess(row["response"], row["prompt"])) for row in CLEAN]
    wrong = [(text, result.codes) for text, result in results if result.codes or not result.natural]
    assert len(wrong) <= 1, wrong


def test_faulty_texts_are_found() -> None:
    """At least 177 of 178 get a fault; a wrong particle alone leaves an answer natural."""
    faulty = [row for row in ROWS if row["faults"]]
    missed = [row["response"] for row in faulty if not assess(row["response"], row["prompt"]).codes]
    assert len(missed) <= 1, missed


PIECES = [
    *"가나다요.!?,\n\"'`*#|-()12 \t",
    "ㅋ",
    "습니다.",
    "이에요. ",
    "```",
    "漢",
    "です",
    "\u200b",
    "\ud7b0",
    "🎉",
    "### User:",
    "1. ",
    "털이 ",
]


@settings(max_examples=150, deadline=None)
@given(
    text=st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=60).map("".join)),
    prompt=st.one_of(st.none(), st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=10).map("".join)),
    finished=st.booleans(),
)
def test_no_text_makes_assess_raise(text: str, prompt: str | None, finished: bool) -> None:
    result = assess(text, prompt, finished)
    assert 0.0 <= result.score <= 1.0
    for fault in result.faults:
        assert 0 <= fault.start <= fault.end <= len(text)
        assert fault.code in FAULT_CODES


@pytest.mark.parametrize("piece", ["가", "가나 ", "털이 털을 ", "아니 ", "1. ", "(", '"', "ㅋ", "그렇습니다. ", "음, ", "1, "])
def test_long_texts_are_judged(piece: str) -> None:
    """Patterns that grew with the square of the length would take minutes here."""
    assert not assess((piece * 20_000)[:20_000]).natural
