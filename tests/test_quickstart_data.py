"""The quickstart's own rows: enough of them, in the real schemas, and never an evaluation prompt among them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from align_ko.overlap import PromptIndex, normalize, overlaps
from align_ko.records import content_id

DATA = Path(__file__).parents[1] / "recipes" / "quickstart" / "data"


def jsonl(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def conversations():
    """(group, messages) of every raw row."""
    rows = []
    for row in json.loads((DATA / "raw" / "kullm_v2.json").read_text(encoding="utf-8")):
        assert set(row) == {"id", "instruction", "input", "output"}
        asked = f"{row['instruction']}\n\n{row['input']}".strip()
        rows.append(("instruction", [asked, row["output"]]))
    for row in jsonl("raw/koalpaca.jsonl"):
        assert set(row) == {"instruction", "output", "url"}
        rows.append(("instruction", [row["instruction"], row["output"]]))
    for row in jsonl("raw/smol_koreantalk.jsonl"):
        roles = [m["role"] for m in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        rows.append(("dialogue", [m["content"] for m in row["messages"]]))
    for row in jsonl("raw/kowiki_qa.jsonl"):
        rows.append(("knowledge", [row["question"], row["answer"]]))
    return rows


def test_there_are_enough_of_each_kind(conversations):
    counts = {group: sum(g == group for g, _ in conversations) for group in ("instruction", "dialogue", "knowledge")}
    assert counts == {"instruction": 565, "dialogue": 235, "knowledge": 150}
    assert sum(len(turns) > 2 for _, turns in conversations) == 135


def test_no_two_conversations_begin_alike(conversations):
    questions = [normalize(turns[0]) for _, turns in conversations]
    assert len(set(questions)) == len(questions)


def test_answers_end_and_have_the_lengths_they_should(conversations):
    answers = [turn for _, turns in conversations for turn in turns[1::2]]
    assert [a for a in answers if not a.endswith((".", "!", "?"))] == []
    inside = sum(60 <= len(a) <= 400 for a in answers) / len(answers)
    assert inside >= 0.95


def test_no_evaluation_prompt_is_near_a_training_question(conversations):
    both = [jsonl("evaluation/prompts.jsonl"), jsonl("evaluation/further_prompts.jsonl")]
    assert [len(rows) for rows in both] == [60, 180]
    prompts = [row["messages"][0]["content"] for rows in both for row in rows]
    index = PromptIndex(prompts)
    asked = [turn for _, turns in conversations for turn in turns[::2] if len(normalize(turn)) >= 8]
    assert [question for question in asked if overlaps(question, index)] == []
    assert [prompt for number, prompt in enumerate(prompts) if overlaps(prompt, prompts[:number])] == []


def test_further_prompts_are_of_the_same_kinds():
    """Three times as many of each group, no answers, ids that say what is asked."""
    rows = jsonl("evaluation/further_prompts.jsonl")
    assert Counter(row["group"] for row in rows) == {"instruction": 108, "dialogue": 45, "knowledge": 27}
    assert {row["topic"] for row in rows} <= {row["topic"] for row in jsonl("evaluation/prompts.jsonl")}
    assert all([m["role"] for m in row["messages"]] == ["user"] for row in rows)
    assert all(row["id"] == content_id(row["messages"]) for row in rows)


def test_every_evaluation_prompt_has_a_reference():
    for row in jsonl("evaluation/prompts.jsonl"):
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert row["messages"][1]["content"].strip()
