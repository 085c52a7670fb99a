"""The tasks for lm-evaluation-harness: their functions, and the harness itself where it is installed."""

from __future__ import annotations

import runpy
from pathlib import Path
from statistics import mean

import pytest

from align_ko.korean import assess

FOLDER = Path(__file__).parents[2] / "metrics/lm_eval"


@pytest.fixture(scope="module")
def utils():
    return runpy.run_path(str(FOLDER / "utils.py"))


def test_references_meet_their_demands_and_other_answers_do_not(utils):
    documents = utils["load"](suite="instructions", version=1.0)["test"]
    assert len(documents) == 160
    first = documents[0]
    assert utils["process_results"](first, [first["reference"]]) == {
        "natural": 1.0, "score": 0.9212, "demands_met": 1.0, "all_demands_met": 1.0,
    }  # fmt: skip
    wrong = utils["process_results"](first, ["운동하세요. 운동하세요. 운동하세요. 운동하세요."])
    assert (wrong["natural"], wrong["demands_met"], wrong["all_demands_met"]) == (0.0, 0.0, 0.0)
    table = next(document for document in documents if document["reference"].startswith("|"))
    assert utils["process_results"](table, [table["reference"]])["natural"] is None
    assert utils["share"]([1.0, None, 0.0]) == 0.5


def test_only_prompts_of_one_turn_are_documents(utils):
    core = utils["load"](suite="core")["test"]
    assert (len(core), core[0]["demands"]) == (240, "[]")
    assert utils["process_results"](core[0], ["네, 그렇습니다."]).keys() == {"natural", "score"}


def test_the_harness_runs_them_with_a_local_model(llama, monkeypatch):
    harness = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (pip install 'lm_eval[hf]')")
    from lm_eval.tasks import TaskManager

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    found = harness.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(llama.folder), "device": "cpu", "dtype": "float32"},
        tasks=["korean_naturalness", "korean_instructions"],
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
        limit=3,
        gen_kwargs={"max_gen_toks": 8},
        bootstrap_iters=0,
    )
    for task in ("korean_naturalness", "korean_instructions"):
        samples = found["samples"][task]
        judged = [assess(one["filtered_resps"][0], one["doc"]["question"]) for one in samples]
        assert len(judged) == 3
        assert found["results"][task]["score,none"] == pytest.approx(mean(one.score for one in judged))
        assert found["results"][task]["natural,none"] == pytest.approx(mean(one.natural for one in judged))
    assert 0 <= found["results"]["korean_instructions"]["demands_met,none"] <= 1
