"""The quickstart's own rows: enough of them, in the real schemas, and never an evaluation prompt among them."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from align_ko.curation.duplicates import PromptIndex, normalize, overlaps

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
    prompts = [row["messages"][0]["content"] for row in jsonl("evaluation/prompts.jsonl")]
    assert len(prompts) == 60
    index = PromptIndex(prompts)
    asked = [turn for _, turns in conversations for turn in turns[::2] if len(normalize(turn)) >= 8]
    assert [question for question in asked if overlaps(question, index)] == []
    assert not any(overlaps(a, [b]) for a, b in combinations(prompts, 2))


def test_every_evaluation_prompt_has_a_reference():
    for row in jsonl("evaluation/prompts.jsonl"):
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert row["messages"][1]["content"].strip()
