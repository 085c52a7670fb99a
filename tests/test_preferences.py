"""Candidates are drawn once and kept."""

from __future__ import annotations

import json

import pytest
from conftest import turns

from align_ko.generation.local import Generated
from align_ko.preferences import candidates as drawing
from align_ko.preferences.candidates import Candidate, Task, draw_candidates, tasks_from_rows
from align_ko.recipe import DecodingArgs, GenerationArgs

TASKS = [Task(f"t{n}", [{"role": "user", "content": f"{n}번 질문"}], f"{n}번 모범 답입니다.") for n in range(5)]
SETTINGS = {"cool": DecodingArgs(0.7, 0.9, 1.1)}
GENERATION = GenerationArgs(max_new_tokens=16, batch_size=2, seed=3)
MADE = {"checkpoint": "abc"}


@pytest.fixture
def calls(monkeypatch):
    """Every prompt the stand-in model is asked, as (setting, question); batches of two, as the real one tells them."""
    asked = []

    def generate(model, tokenizer, prompts, decoding, max_new_tokens, batch_size, seed, stop_loops, on_batch):
        assert stop_loops  # a loop is cut in the pair anyway
        name = "cool" if decoding.temperature else "greedy"
        for start in range(0, len(prompts), batch_size):
            indices = list(range(start, min(start + batch_size, len(prompts))))
            asked.extend((name, prompts[i][0]["content"]) for i in indices)
            if model == "dies after two batches" and len(asked) > 4:
                raise KeyboardInterrupt
            on_batch(indices, [Generated(f"{name}: {prompts[i][0]['content']}", i % 2 == 0, 7) for i in indices])

    monkeypatch.setattr(drawing, "generate_answers", generate)
    return asked


def draw(file, model="", made=MADE, tasks=TASKS, settings=SETTINGS):
    return draw_candidates(model, None, tasks, settings, GENERATION, file, made)


def test_one_greedy_and_one_of_each_setting(calls, tmp_path):
    drawn = draw(tmp_path / "candidates.jsonl")
    assert len(calls) == 10 and list(drawn) == [task.id for task in TASKS]
    assert drawn["t1"] == [
        Candidate("greedy", "greedy", "greedy: 1번 질문", False, 7),
        Candidate("cool", "temperature=0.7 top_p=0.9 repetition_penalty=1.1", "cool: 1번 질문", False, 7),
    ]
    assert len((tmp_path / "candidates.jsonl").read_text().splitlines()) == 10


def test_a_rerun_asks_nothing(calls, tmp_path):
    first = draw(tmp_path / "c.jsonl")
    calls.clear()
    assert draw(tmp_path / "c.jsonl") == first and calls == []


def test_it_goes_on_after_an_interruption_and_a_torn_line(calls, tmp_path, capsys):
    file = tmp_path / "c.jsonl"
    with pytest.raises(KeyboardInterrupt):
        draw(file, "dies after two batches")
    assert len(file.read_text().splitlines()) == 4  # two finished batches
    text = file.read_bytes()
    file.write_bytes(text[:-20])  # killed while the fourth answer was being written
    calls.clear()
    drawn = draw(file)
    assert calls == [("greedy", "3번 질문"), ("greedy", "4번 질문"), *(("cool", f"{n}번 질문") for n in range(5))]
    assert "3 answers are there already, 7 to go" in capsys.readouterr().out
    assert [candidate.text for candidate in drawn["t3"]] == ["greedy: 3번 질문", "cool: 3번 질문"]
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()].count("t3") == 2
    calls.clear()
    draw(file)
    assert calls == []


@pytest.mark.parametrize("made", [{"checkpoint": "other"}, {"checkpoint": "abc", "settings": {"cool": "hotter"}}])
def test_another_checkpoint_starts_afresh(calls, tmp_path, capsys, made):
    draw(tmp_path / "c.jsonl")
    calls.clear()
    draw(tmp_path / "c.jsonl", made=made)
    assert len(calls) == 10 and "another checkpoint or setting: starting afresh" in capsys.readouterr().out
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 10


def test_more_prompts_ask_only_for_the_new_ones(calls, tmp_path):
    draw(tmp_path / "c.jsonl", tasks=TASKS[:3])
    calls.clear()
    draw(tmp_path / "c.jsonl")
    assert calls == [(name, f"{n}번 질문") for name in ("greedy", "cool") for n in (3, 4)]


def test_tasks_keep_their_order_when_rows_come(tmp_path):
    rows = [{"id": f"r{n}", "messages": turns(f"질문 {n}", f"답 {n}")} for n in range(30)]
    rows.append({"id": "open", "messages": turns("질문", "답")[:1]})  # no answer: not a task
    tasks = tasks_from_rows(rows)
    assert len(tasks) == 30 and [t.id for t in tasks] != sorted(t.id for t in tasks)
    assert tasks_from_rows(rows, 10) == tasks[:10] == tasks_from_rows(rows[::-1], 10)
    fewer = [task for task in tasks if task.id != "r7"]
    assert tasks_from_rows([row for row in rows if row["id"] != "r7"]) == fewer
    assert (tasks[0].prompt[-1]["content"], tasks[0].reference) == tuple(text + tasks[0].id[1:] for text in ("질문 ", "답 "))
