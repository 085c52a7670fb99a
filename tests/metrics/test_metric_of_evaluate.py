"""The metric of `evaluate`, loaded by the installed library from the clone and from a copy such as the wheel's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from align_ko.evaluation.scores import chrf
from align_ko.korean import assess

evaluate = pytest.importorskip("evaluate", reason="the metric is loaded by the `evaluate` library, which is not installed")
ROOT = Path(__file__).parents[2]
ANSWERS = [
    "대한민국의 수도는 서울입니다.",
    "서울입니다. 서울입니다. 서울입니다. 서울입니다.",
    "비빔밥 어때? 나물도 남았잖아.",
    "| 가 | 나 |\n|---|---|\n| 1 | 2 |",
]
PROMPTS = ["대한민국의 수도는 어디예요?", "수도가 어디야?", "반말로 말해 줘. 뭐 먹을까?", "표로 정리해 줘"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Nothing is looked for on the hub, and what `evaluate` copies and caches goes with the test."""
    for name in ("HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE"):
        monkeypatch.setattr(evaluate.config, name, str(tmp_path / name))
    monkeypatch.chdir(ROOT)


def test_it_judges_as_assess_does():
    found = evaluate.load("metrics/korean_naturalness").compute(predictions=ANSWERS, prompts=PROMPTS)
    judged = [assess(answer, prompt) for answer, prompt in zip(ANSWERS, PROMPTS, strict=True)]
    assert [one["natural"] for one in found["answers"]] == [one.natural for one in judged] == [True, False, True, True]
    assert [one["score"] for one in found["answers"]] == [one.score for one in judged]
    assert [[fault["code"] for fault in one["faults"]] for one in found["answers"]] == [[], ["repetition"], [], []]
    assert (found["natural"], found["outside"], found["faults"]["repetition"]) == (pytest.approx(2 / 3), 1, 0.25)
    assert "chrf" not in found and found["distinct"] == 1.0


def test_prompts_and_references_are_optional(tmp_path):
    folder = shutil.copytree(ROOT / "metrics", tmp_path / "metrics")  # as the wheel has it
    metric = evaluate.load(str(folder / "korean_naturalness"))
    alone = metric.compute(predictions=ANSWERS[:3])
    assert [one["natural"] for one in alone["answers"]] == [True, False, False]  # nobody asked for 반말
    references = ["수도는 서울이에요.", "서울이에요.", "비빔밥이요."]
    metric.add(prediction=ANSWERS[0], reference=references[0])
    metric.add_batch(predictions=ANSWERS[1:3], references=references[1:], prompts=PROMPTS[1:3])
    added = metric.compute()
    assert added["chrf"] == pytest.approx(chrf(ANSWERS[:3], references))
    assert [one["natural"] for one in added["answers"]] == [True, False, True]
    cut = metric.compute(predictions=ANSWERS[:1], finished=[False])
    assert [fault["code"] for fault in cut["answers"][0]["faults"]] == ["unfinished"]
