"""The suites that come with the package, and how they are read, measured and compared."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from align_ko.errors import UserError
from align_ko.evaluation.scores import score_rows, summarise
from align_ko.evaluation.suites import best_checkpoints, measure_suites, read_suites
from align_ko.korean import assess_each
from align_ko.korean.demands import VERIFIERS, unmet
from align_ko.korean.genre import asked_for
from align_ko.manifest import MARKER
from align_ko.overlap import OVERLAP_THRESHOLD, PromptIndex, prompts_to_hold_out
from align_ko.recipe import SUITES, EvaluateRecipe, check_inputs, recipe_from, suite_files
from align_ko.records import content_id, read_jsonl, write_jsonl

RAW = Path(__file__).parents[2] / "recipes/quickstart/data/raw"


@pytest.fixture(scope="module", params=["multi_turn", "instructions"])
def suite(request):
    return request.param, list(read_jsonl(*suite_files(request.param)))


@pytest.fixture(scope="module")
def trained_on():
    """Every question of the quickstart's rows."""
    asked = [
        f"{row['instruction']}\n\n{row['input']}".strip() for row in json.loads((RAW / "kullm_v2.json").read_text("utf-8"))
    ]
    asked += [row["instruction"] for row in read_jsonl(RAW / "koalpaca.jsonl")]
    asked += [row["question"] for row in read_jsonl(RAW / "kowiki_qa.jsonl")]
    talks = read_jsonl(RAW / "smol_koreantalk.jsonl")
    return asked + [message["content"] for row in talks for message in row["messages"] if message["role"] == "user"]


def test_every_row_is_a_prompt_with_a_reference(suite):
    name, rows = suite
    assert all(row["id"] == content_id(row["messages"][:-1]) for row in rows)
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
    turns = Counter(len(row["messages"]) // 2 for row in rows)
    assert set(turns) == ({2, 3} if name == "multi_turn" else {1})


def test_nothing_is_near_training_core_or_another_prompt(suite, trained_on):
    _, rows = suite
    core = [row["messages"][0]["content"] for file in suite_files("core") for row in read_jsonl(file)]
    other = read_jsonl(*suite_files("instructions" if suite[0] == "multi_turn" else "multi_turn"))
    seen = [*trained_on, *core, *(prompt for row in other for prompt in prompts_to_hold_out(row["messages"]))]
    for row in rows:
        prompts = prompts_to_hold_out(row["messages"])
        index = PromptIndex(seen)
        assert [(prompt, found) for prompt in prompts if (found := index.nearest(prompt, OVERLAP_THRESHOLD))[0]] == []
        seen += prompts


def test_every_answer_is_natural(suite):
    _, rows = suite
    answers = [
        (row["messages"][n]["content"], row["messages"][n - 1]["content"])
        for row in rows
        for n in range(1, len(row["messages"]), 2)
    ]
    judged = assess_each([answer for answer, _ in answers], [prompt for _, prompt in answers])
    assert [
        (answer, one.codes) for (answer, _), one in zip(answers, judged, strict=True) if not one.natural or one.faults
    ] == []
    for (answer, prompt), one in zip(answers, judged, strict=True):
        assert bool(one.outside) == answer.startswith(("|", "```")), prompt


def test_conversations_are_of_seven_kinds():
    kinds = Counter(row["topic"] for row in read_jsonl(*suite_files("multi_turn")))
    assert set(kinds) == {"ellipsis", "correction", "topic_change", "callback", "banmal_switch", "thanks", "narrowing"}
    assert sum(kinds.values()) >= 60 and min(kinds.values()) >= 8


def test_every_reference_meets_its_demands_and_the_judge_expects_the_level_asked_for():
    rows = list(read_jsonl(*suite_files("instructions")))
    assert [(row["id"], missed) for row in rows if (missed := unmet(row["messages"][-1]["content"], row["demands"]))] == []
    kinds = Counter(demand["demand"] for row in rows for demand in row["demands"])
    assert set(kinds) == set(VERIFIERS) and min(kinds.values()) >= 4
    assert len(rows) >= 120 and 3 * sum(len(row["demands"]) > 1 for row in rows) >= len(rows)
    for row in rows:
        for demand in row["demands"]:
            if demand["demand"] == "level":
                expected = {"plain": ("plain",), "written": ("any",)}.get(demand["level"], ("polite", "any"))
                assert asked_for(row["messages"][0]["content"]).level in expected, row


def test_a_reference_of_another_prompt_meets_few_demands():
    """Each kind refuses most of what was written for other prompts, so an answer does not pass by being an answer."""
    rows = list(read_jsonl(*suite_files("instructions")))
    passed = Counter()
    for row, other in zip(rows, rows[40:] + rows[:40], strict=True):
        missed = unmet(other["messages"][-1]["content"], row["demands"])
        passed[not missed] += 1
    assert passed[True] < 0.15 * len(rows)


# Reading, measuring, naming ------------------------------------------------------------------------------------------------


def test_suites_are_read_by_name_and_a_prompt_of_two_is_asked_once(tmp_path):
    write_jsonl(
        tmp_path / "mine.jsonl", [{"prompt": "처음 보는 질문이에요.", "id": "a"}, {"prompt": "또 다른 질문이에요.", "id": "b"}]
    )
    write_jsonl(
        tmp_path / "other.jsonl",
        [{"prompt": "처음 보는 질문이에요.", "id": "a"}, {"prompt": "전혀 다른 질문이에요.", "id": "b"}],
    )
    rows = read_suites([str(tmp_path / "mine.jsonl"), str(tmp_path / "other.jsonl")])
    assert [(row.suite, row.id in ("a", "b")) for row in rows] == [("mine", True), ("mine", True), ("other", False)]
    assert Counter(row.suite for row in read_suites(["core", "instructions"])) == {"core": 240, "instructions": 160}
    assert [row.suite for row in read_suites(["core", "multi_turn"], 2)] == ["core"] * 2 + ["multi_turn"] * 2
    assert read_suites(["instructions"], 1)[0].demands == ({"demand": "items", "count": 3, "marker": "number"},)


def test_a_demand_that_nothing_checks_is_named(tmp_path):
    write_jsonl(tmp_path / "p.jsonl", [{"prompt": "안녕하세요", "demands": [{"demand": "setnences", "count": 1}]}])
    with pytest.raises(UserError, match=r"there is no demand 'setnences'.*did you mean 'sentences'"):
        read_suites([str(tmp_path / "p.jsonl")])


def recipe(**keys):
    return recipe_from(EvaluateRecipe, **{"models": {"m": "a/b"}, "output_dir": "out", **keys})


def test_a_suite_is_named_in_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe(suites=["core", "multi_turn"]).asked == ("core", "multi_turn")
    assert recipe(suites=["core"], prompts_file="p.jsonl").asked == ("p.jsonl", "core")
    check_inputs(recipe(suites=list(SUITES), prompts_file="core"))
    with pytest.raises(UserError, match="suites: there is no suite 'multi_trun'; did you mean 'multi_turn'"):
        recipe(suites=["multi_trun"])
    with pytest.raises(UserError, match=r"suites\[0\]: there is no file mine\.jsonl"):
        check_inputs(recipe(suites=["mine.jsonl"]))
    with pytest.raises(
        UserError, match="suites: no prompts to ask; expected one of core, multi_turn, instructions, or 'prompts_file'"
    ):
        recipe()


def answer(model, response, natural_prompt="수도는 어디예요?", **more):
    return {
        "model": model, "setting": "greedy", "decoding": "do_sample=False", "kind": "heldout", "group": "", "topic": "",
        "prompt": [{"role": "user", "content": natural_prompt}], "prompt_id": response, "reference": None, "response": response,
        "finished": True, "tokens": 9, **more,
    }  # fmt: skip


GOOD, LOOP = "대한민국의 수도는 서울입니다.", "수도는 서울입니다. " * 9
ITEMS, LATIN = {"demand": "items", "count": 2}, {"demand": "no_latin"}


def test_the_share_of_demands_met_stands_beside_form():
    rows = score_rows(
        [
            answer("m", GOOD, suite="core"),
            answer("m", "- 서울입니다.\n- 부산입니다.", suite="instructions", demands=[ITEMS, LATIN]),
            answer("m", LOOP, suite="instructions", demands=[ITEMS, LATIN]),
            answer("m", "| 가 | 나 |\n|---|---|\n| 1 | 2 |", suite="instructions", demands=[ITEMS]),
            answer("m", LOOP, kind="probe", demands=[ITEMS]),
        ]
    )
    assert [row.get("unmet") for row in rows] == [None, [], [ITEMS], [ITEMS], [ITEMS]]
    core, instructions = measure_suites(rows)
    assert (core["suite"], core["n"], core["natural"]) == ("core", 1, 1.0)
    assert (core["demands"], core["met"], core["all_met"]) == (0, None, None)
    assert (instructions["n"], instructions["natural"], instructions["outside"]) == (3, 0.5, 1)
    assert (instructions["demands"], instructions["met"], instructions["all_met"]) == (5, 0.6, pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("answers", "nll", "said"),
    [
        ({10: [LOOP, GOOD], 20: [GOOD, GOOD], 30: [LOOP, LOOP]}, {},
         "checkpoint-20: natural in form 100 %, next checkpoint-10 with 50 %, which may be chance"),
        ({10: [GOOD] * 20, 20: [LOOP] * 20}, {}, "checkpoint-10: natural in form 100 %, next checkpoint-20 with 0 %"),
        ({10: [GOOD], 20: [GOOD]}, {10: 2.5, 20: 2.25}, "checkpoint-20: NLL 2.250, next checkpoint-10 with 2.500"),
        ({10: [GOOD], 20: [GOOD]}, {}, "checkpoint-10: as good as checkpoint-20, and earlier"),
    ],
)  # fmt: skip
def test_the_best_checkpoint_is_named_with_why(answers, nll, said):
    rows = score_rows(answer(f"run/checkpoint-{step}", text) for step, texts in answers.items() for text in texts)
    summary = summarise(
        [*rows, *score_rows([answer("base", LOOP)])], {f"run/checkpoint-{step}": value for step, value in nll.items()}
    )
    assert best_checkpoints(summary["results"], measure_suites(rows)) == {"run": said}
    alone = summarise(rows[:1])
    assert best_checkpoints(alone["results"]) == {}


def test_demands_decide_between_equally_natural_checkpoints():
    rows = score_rows(
        answer(f"run/checkpoint-{step}", text, demands=[ITEMS])
        for step, text in ((1, GOOD), (2, "- 서울입니다.\n- 부산입니다."))
    )
    found = best_checkpoints(summarise(rows)["results"], measure_suites(rows))
    assert found == {"run": "checkpoint-2: demands met 100 %, next checkpoint-1 with 0 %"}


def test_a_run_stands_for_its_checkpoints(tmp_path):
    for step in (100, 20, 3):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "run" / f"checkpoint-{step}" / "adapter_config.json").write_text("{}")
    (tmp_path / "run/checkpoint-best").mkdir()
    run = str(tmp_path / "run")
    steps = {f"m/checkpoint-{step}": f"{run}/checkpoint-{step}" for step in (3, 20, 100)}
    assert recipe(models={"base": "a/b", "m": run}, suites=["core"]).models == {"base": "a/b", **steps}
    (tmp_path / "run/checkpoint-3" / MARKER).write_text("{}")  # the others were not written to their end
    assert recipe(models={"m": run}, suites=["core"]).models == {"m/checkpoint-3": f"{run}/checkpoint-3"}
    (tmp_path / "run/config.json").write_text("{}")  # a finished run: its result is what is meant
    assert recipe(models={"m": run}, suites=["core"]).models == {"m": run}
    assert list(recipe(models={"m": f"{run}/checkpoint-*"}, suites=["core"]).models) == ["m/checkpoint-3"]
