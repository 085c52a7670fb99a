"""Candidates are drawn once and kept, whatever interrupts the drawing and however many processes share it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from functools import partial

import pytest
from conftest import turns

from align_ko.errors import UserError
from align_ko.generation import requests
from align_ko.generation.requests import GREEDY, Generated, clock, describe, progress, row_seed
from align_ko.preferences.candidates import Candidate, draw_candidates, read_tasks
from align_ko.process import Processes
from align_ko.recipe import CandidateArgs, PreferencesRecipe, load_recipe
from align_ko.records import PromptRow, write_jsonl
from align_ko.stores import row_key, shards

TASKS = [PromptRow(f"t{n}", [{"role": "user", "content": f"{n}번 질문"}], f"{n}번 모범 답입니다.") for n in range(5)]
SETTINGS = {"cool": CandidateArgs(0.7, 0.9, 1.1)}
SEED = 3


class Model:
    """Answers with the setting, the question and the seed; dies before answer number `dies_after`."""

    def __init__(self, dies_after=10**9):
        self.asked, self.left = [], dies_after

    def __call__(self, requests, on_answer):
        for at, request in enumerate(requests):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            name = "greedy" if request.decoding == GREEDY else f"{request.decoding.temperature:g}"
            self.asked.append((name, request.prompt[0]["content"]))
            on_answer(at, Generated(f"{name}: {request.prompt[0]['content']}\u2028{request.seed}", request.seed % 2 == 0, 7))


def keys(requests, weights="abc"):
    return [
        row_key(weights=weights, prompt=r.prompt, decoding=describe(r.decoding), seed=r.seed * (r.decoding.temperature > 0))
        for r in requests
    ]


def draw(file, model=None, keys=keys, tasks=TASKS, settings=SETTINGS, processes=None):
    return draw_candidates(model or Model(), keys, tasks, settings, SEED, file, processes)


def rows(file):
    return [json.loads(line) for path in shards(file) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_one_greedy_and_one_of_each_setting(tmp_path):
    model = Model()
    drawn = draw(tmp_path / "candidates.jsonl", model)
    assert len(model.asked) == 10 and list(drawn) == [task.id for task in TASKS]
    words = "temperature=0.7 top_p=0.9 repetition_penalty=1.1"
    greedy, cool = (row_seed(SEED, "t1", name, 0) for name in ("greedy", "cool"))
    assert drawn["t1"] == [
        Candidate("greedy", "greedy", f"greedy: 1번 질문\u2028{greedy}", greedy % 2 == 0, 7),
        Candidate("cool", words, f"0.7: 1번 질문\u2028{cool}", cool % 2 == 0, 7),
    ]
    assert len(rows(tmp_path / "candidates.jsonl")) == 10


def test_several_samples_of_a_setting_are_several_answers(tmp_path):
    settings = {"cool": CandidateArgs(0.7, 0.9, 1.1, samples=3), "warm": CandidateArgs(1.0)}
    drawn = draw(tmp_path / "c.jsonl", settings=settings)
    order = [("greedy", 0), ("cool", 0), ("cool", 1), ("cool", 2), ("warm", 0)]
    assert all([(c.setting, c.sample) for c in drawn[task.id]] == order for task in TASKS)
    assert len({candidate.text for task in TASKS for candidate in drawn[task.id]}) == 25  # a seed for each


def test_a_rerun_asks_nothing_and_does_not_even_begin_to_draw(tmp_path):
    first = draw(tmp_path / "c.jsonl")

    def never(requests, on_answer):
        raise AssertionError("the model would be loaded")

    assert draw(tmp_path / "c.jsonl", never) == first


def test_it_goes_on_after_an_interruption_and_a_torn_line(tmp_path, capsys):
    file = tmp_path / "c.jsonl"
    with pytest.raises(KeyboardInterrupt):
        draw(file, Model(dies_after=4))
    assert len(rows(file)) == 4
    file.write_bytes(file.read_bytes()[:-20])  # killed while the fourth answer was being written
    model = Model()
    drawn = draw(file, model)
    assert model.asked[0] == ("0.7", "1번 질문") and len(model.asked) == 7
    assert "3 answers are stored already, 7 to go" in capsys.readouterr().out
    assert drawn == draw(tmp_path / "whole.jsonl")  # the same seeds, so the same answers
    keys = [(row["id"], row["setting"], row["sample"]) for row in rows(file)]
    assert len(keys) == len(set(keys)) == 10


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_torn_anywhere_even_inside_a_character_is_drawn_again(tmp_path, cut):
    file = tmp_path / "c.jsonl"
    whole = draw(file)
    file.write_bytes(file.read_bytes()[:-cut])
    model = Model()
    assert draw(file, model) == whole
    assert len(model.asked) == (cut > 1)  # a line that lacks its line break alone is whole


def test_a_line_broken_in_the_middle_is_told(tmp_path):
    file = tmp_path / "c.jsonl"
    draw(file)
    lines = file.read_text(encoding="utf-8").split("\n")
    lines[2] = lines[2][:30]
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match=r"c\.jsonl:3: not valid JSON"):
        draw(file)


def test_answers_of_another_checkpoint_are_not_used_and_are_counted(tmp_path, capsys):
    file = tmp_path / "c.jsonl"
    before = draw(file)
    capsys.readouterr()
    model = Model()
    draw(file, model, keys=partial(keys, weights="other"))
    assert len(model.asked) == 10
    assert "c.jsonl: 10 rows of other prompts, weights or settings are not used" in capsys.readouterr().out
    again = Model()
    assert draw(file, again) == before and again.asked == []  # the first ones are still there


def test_an_edited_prompt_under_the_same_id_is_drawn_again(tmp_path):
    file = tmp_path / "c.jsonl"
    draw(file)
    edited, model = replace(TASKS[2], prompt=[{"role": "user", "content": "다른 질문"}]), Model()
    drawn = draw(file, model, tasks=[*TASKS[:2], edited])
    assert model.asked == [("greedy", "다른 질문"), ("0.7", "다른 질문")]
    assert drawn["t2"][0].text.startswith("greedy: 다른 질문")


def test_two_rows_with_one_prompt_are_asked_greedily_once(tmp_path):
    model = Model()
    drawn = draw(tmp_path / "c.jsonl", model, tasks=[TASKS[0], replace(TASKS[0], id="again")])
    assert [name for name, _ in model.asked] == ["greedy", "0.7", "0.7"]
    assert drawn["t0"][0] == drawn["again"][0] and drawn["t0"][1] != drawn["again"][1]


def test_a_changed_setting_is_drawn_again_and_more_samples_only_add(tmp_path):
    file, model = tmp_path / "c.jsonl", Model()
    draw(file)
    draw(file, model, settings={"cool": CandidateArgs(0.6, 0.9, 1.1)})
    assert model.asked == [("0.6", f"{n}번 질문") for n in range(5)]
    more = Model()
    drawn = draw(file, more, settings={"cool": CandidateArgs(0.6, 0.9, 1.1, samples=2), "warm": CandidateArgs(1.0)})
    assert sorted(more.asked) == sorted((name, f"{n}번 질문") for n in range(5) for name in ("0.6", "1"))
    assert [candidate.decoding.split()[0] for candidate in drawn["t0"]][1:3] == ["temperature=0.6"] * 2


def test_more_prompts_ask_only_for_the_new_ones(tmp_path):
    draw(tmp_path / "c.jsonl", tasks=TASKS[:3])
    model = Model()
    draw(tmp_path / "c.jsonl", model)
    assert model.asked == [(name, f"{n}번 질문") for n in (3, 4) for name in ("greedy", "0.7")]


# Several processes ----------------------------------------------------------------------------------------------------------


def shared(file, count, dies_after=10**9):
    """What each of `count` processes asks, one after the other, the first process last (it waits for the others)."""
    models = [Model(dies_after) for _ in range(count)]

    def others():
        """Stands in for waiting: the others run while the first one waits."""
        for rank in range(1, count):
            with contextlib.suppress(KeyboardInterrupt):
                draw(file, models[rank], processes=Processes(rank, count, lambda: None))

    try:
        drawn = draw(file, models[0], processes=Processes(0, count, others))
    except KeyboardInterrupt:
        others()
        drawn = None
    return drawn, [model.asked for model in models]


def test_processes_share_the_prompts_and_the_first_has_all_answers(tmp_path):
    drawn, asked = shared(tmp_path / "c.jsonl", 2)
    assert [sorted({question for _, question in part}) for part in asked] == [
        ["0번 질문", "2번 질문", "4번 질문"], ["1번 질문", "3번 질문"],
    ]  # fmt: skip
    assert [path.name for path in shards(tmp_path / "c.jsonl")] == ["c.jsonl", "c.rank-1.jsonl"]
    assert drawn == draw(tmp_path / "alone.jsonl")


@pytest.mark.parametrize("counts", [(1, 3), (3, 1), (3, 2), (2, 3, 1)])
def test_another_number_of_processes_loses_nothing_and_repeats_nothing(tmp_path, counts):
    file = tmp_path / "c.jsonl"
    for count in counts[:-1]:
        nothing, _ = shared(file, count, dies_after=1)
        assert nothing is None
    before = len(rows(file))
    assert 1 <= before < 10
    drawn, asked = shared(file, counts[-1])
    assert sum(map(len, asked)) == 10 - before and drawn == draw(tmp_path / "alone.jsonl")
    keys = [(row["id"], row["setting"], row["sample"]) for row in rows(file)]
    assert len(keys) == len(set(keys)) == 10


def test_a_failure_in_another_process_is_told_by_it(tmp_path, capsys):
    def fails(requests, on_answer):
        raise UserError("no connection")

    for rank, heard in ((0, ""), (1, "error: process 2 of 2: no connection\n")):
        with pytest.raises(UserError):
            draw(tmp_path / "c.jsonl", fails, processes=Processes(rank, 2))
        assert capsys.readouterr().err == heard


# Prompts --------------------------------------------------------------------------------------------------------------------


def test_prompts_keep_their_order_when_rows_come(tmp_path):
    every = [{"id": f"r{n}", "messages": turns(f"질문 {n}", f"답 {n}")} for n in range(30)]

    def tasks(rows):
        write_jsonl(tmp_path / "prompts.jsonl", rows)
        return read_tasks(str(tmp_path / "prompts.jsonl"))[0]

    whole = tasks(every)
    assert len(whole) == 30 and [t.id for t in whole] != sorted(t.id for t in whole)
    assert tasks(every[::-1]) == whole
    assert tasks([row for row in every if row["id"] != "r7"]) == [task for task in whole if task.id != "r7"]
    assert (whole[0].prompt[-1]["content"], whole[0].reference) == tuple(text + whole[0].id[1:] for text in ("질문 ", "답 "))
    assert tasks([*every, every[3]]) == whole  # an upsampled row is asked once


def test_prompts_of_another_file_are_left_out_by_row_or_by_prompt(tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(tmp_path / name)

    prompts = write("p.jsonl", [{"id": f"r{n}", "messages": turns(f"질문 {n}", "답")} for n in range(6)])
    seen = write("sft.jsonl", [{"id": "r1", "messages": turns("전혀 다른 글", "답")}, {"messages": turns("질문 4", "다른 답")}])
    plain = write("plain.jsonl", [{"prompt": "질문 0"}])
    tasks, skipped = read_tasks(prompts, [seen, plain])
    assert sorted(task.id for task in tasks) == ["r2", "r3", "r5"] and skipped == 3
    assert read_tasks(prompts)[1] == 0


# Recipe and progress --------------------------------------------------------------------------------------------------------

RECIPE = """\
model_name_or_path: m
prompts_file: p.jsonl
output_dir: o
candidates:
  cool: {{temperature: {temperature}, samples: {samples}}}
"""


def recipe(tmp_path, temperature=0.7, samples=4, more="", words=()):
    file = tmp_path / "preferences.yaml"
    file.write_text(RECIPE.format(temperature=temperature, samples=samples) + more, encoding="utf-8")
    return load_recipe(PreferencesRecipe, [str(file), *words])


def test_the_recipe_takes_samples_and_an_endpoint(tmp_path):
    endpoint = "endpoint: {base_url: http://localhost:8000/v1, model: m, server: llama_cpp, extra_body: {mirostat: 0}}\n"
    loaded = recipe(tmp_path, more=endpoint, words=["--endpoint.concurrency", "4", "--candidates.cool.top_p", "0.9"])
    assert loaded.candidates == {"cool": CandidateArgs(0.7, 0.9, 1.0, samples=4)}
    assert (loaded.endpoint.server, loaded.endpoint.concurrency, loaded.endpoint.extra_body) == (
        "llama_cpp",
        4,
        {"mirostat": 0},
    )
    assert recipe(tmp_path).endpoint is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, r"preferences\.yaml:5: candidates\.cool\.samples: 0 cannot work; expected 1 or more"),
        ({"temperature": 0}, r"5: candidates\.cool\.samples: 4 answers without sampling are all the same"),
        ({"more": "  greedy: {temperature: 1}\n"}, r"6: candidates\.greedy: this name is taken"),
        (
            {"more": "endpoint: {base_url: x, model: m, server: vlm}\n"},
            r"endpoint\.server: 'vlm' does not fit.*did you mean 'vllm'",
        ),
        ({"more": "endpoint: {model: m}\n"}, r"6: endpoint\.base_url: this key is missing"),
        ({"more": "endpoint: {base_url: x, model: m, concurrency: 0}\n"}, r"endpoint\.concurrency: 0 cannot work"),
    ],
)
def test_recipe_mistakes_are_told_with_their_line(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        recipe(tmp_path, **options)


def test_a_log_hears_rate_and_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(requests.time, "monotonic", lambda: now[0])
    with progress(100) as advance:
        for _ in range(40):
            now[0] += 1
            advance()
    assert capsys.readouterr().out.splitlines() == ["30 of 100 answers, 1.0/s, 70 s left", "40 of 100 answers in 40 s (1.0/s)"]
    with progress(100, is_shown=False) as advance:
        now[0] += 100
        advance()
    assert capsys.readouterr().out == ""
    assert [clock(s) for s in (45, 700, 12_000)] == ["45 s", "12 min", "3 h 20 min"]


def test_a_setting_with_a_system_message_shows_it_to_the_model_alone(tmp_path):
    bare = PromptRow("bare", [{"role": "user", "content": "모범 답이 없는 질문"}], None)
    question = {"role": "user", "content": "질문"}
    instructed = PromptRow("instructed", [{"role": "system", "content": "짧게."}, question], "답입니다.")
    settings = {
        "guided": CandidateArgs(0.7, system="존댓말로 답하세요."),
        "informed": CandidateArgs(0.5, samples=2, system="이 내용으로 답하세요: {reference}"),
    }
    asked = []

    def model(requests, on_answer):
        asked.extend(request.prompt for request in requests)
        for at in range(len(requests)):
            on_answer(at, Generated(f"{at}번 답", True, 5))

    drawn = draw(tmp_path / "c.jsonl", model, tasks=[bare, instructed], settings=settings)

    def told(text):
        return [{"role": "system", "content": text}, question]

    bare_guided = [{"role": "system", "content": "존댓말로 답하세요."}, *bare.prompt]
    informed = told("짧게.\n\n이 내용으로 답하세요: 답입니다.")
    assert asked == [bare.prompt, bare_guided, told("짧게."), told("짧게.\n\n존댓말로 답하세요."), informed, informed]
    assert [one.setting for one in drawn["bare"]] == ["greedy", "guided"]
    assert [one.setting for one in drawn["instructed"]] == ["greedy", "guided", "informed", "informed"]
    assert drawn["bare"][1].decoding == "temperature=0.7 top_p=1 repetition_penalty=1 (guided)"
