"""The page of a project: which stages it finds, in which order, and what it says of each; its charts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from html_page import Page, in_language

from align_ko.errors import UserError
from align_ko.manifest import write_manifest
from align_ko.records import write_json
from align_ko.report.index import find_manifests, in_order, loss_curves, write_index
from align_ko.report.page import duration

EVIL = "<script>alert(1)</script>\x1b[2J\u202e"
EVALUATIONS = [
    {"step": 10, "train_loss": 2.0, "eval_loss": 2.0, "verdict": "normal"},
    {"step": 20, "train_loss": 1.0, "eval_loss": 2.5, "verdict": "overfit"},
]


def stage(
    folder: Path, name: str, made_at: str, inputs: tuple[str, ...] = (), models: tuple[str, ...] = (), **facts: Any
) -> None:
    read = {"inputs": dict.fromkeys(inputs, "1"), "models": dict.fromkeys(models, "2")}
    write_json(folder / "manifest.json", {"stage": name, "made_at": made_at, **read, **facts})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Curation made again after the others, outside outputs/, as the recipes have it."""
    monkeypatch.chdir(tmp_path)
    outputs, data = tmp_path / "outputs/r", tmp_path / "data/r"
    rows = {"read": 1140, "kept": 950, "train": 603}
    stage(data / "sft", "data", "5", rows=rows, seconds=2.6, peak_memory_gib=0.31)
    greedy = [{"step": 0, "natural": 0.25, "answered": 32.0}, {"step": 20, "natural": 0.75, "answered": 32.0, "relevant": 0.5}]
    facts = {"evaluations": EVALUATIONS, "greedy": greedy, "seconds": 754, "peak_memory_gib": 4.5, "peak_gpu_gib": 17.25}
    stage(outputs / "sft", "sft", "1", ("data/r/sft/train.jsonl",), ("quickstart",), **facts)
    summary = {"prompts": 296, "pairs": 240, "rejected_for": {"repetition": 100, "unfinished": 40, "filler": 9, "echo": 1}}
    stage(data / "preferences", "preferences", "2", ("data/r/sft/preferences.jsonl",), ("outputs/r/sft",), summary=summary)
    stage(outputs / "dpo", "dpo", "3", ("data/r/preferences/train.jsonl",), ("outputs/r/sft",), rows=165, weights={"step": 42})
    stage(outputs / "evaluation", "evaluate", "4", (), ("outputs/r/sft", "outputs/r/dpo"))
    one = {"natural_low": 0.67, "natural_high": 0.89, "relevant": None, "loops": 0.05}
    results = [{"model": EVIL, "setting": setting, "natural": 0.8, **one} for setting in ("greedy", "sampling_cool")]
    write_json(outputs / "evaluation/scores.json", {"results": results})
    stage(outputs / "evaluation/grid", "decoding_gap", "6", (), ("outputs/r/dpo",))
    write_json(outputs / "evaluation/grid/scores.json", {"decoding_gap": {"dpo": {"points": 3.4}}})
    for file in (data / "sft/report.html", outputs / "sft/README.md"):
        file.write_text("", encoding="utf-8")
    stage(outputs / "sft/checkpoint-20", "sft", "0")
    write_json(outputs / "extension/manifest.json", {"manifest_version": 3})
    return outputs


def test_every_stage_comes_after_those_it_read(project: Path) -> None:
    manifests = find_manifests(project)
    root = project.parents[1]
    assert [folder.relative_to(root).as_posix() for folder in in_order(project, manifests)] == [
        "data/r/sft", "outputs/r/sft", "data/r/preferences", "outputs/r/dpo", "outputs/r/evaluation",
        "outputs/r/evaluation/grid",
    ]  # fmt: skip


def test_two_stages_that_read_each_other_are_in_order_of_time(project: Path) -> None:
    stage(project / "sft", "sft", "1", models=("outputs/r/dpo",))
    manifests = find_manifests(project)
    made = [manifests[folder]["made_at"] for folder in in_order(project, manifests)]
    assert made == sorted(made)


def test_the_page_says_what_came_of_each_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # paths in manifests are found from the folder too
    page = write_index(project).read_text(encoding="utf-8")
    Page(page)
    korean, english = (re.sub(r"<[^>]+>", "", in_language(page, language)) for language in ("ko", "en"))
    for told in (
        "1,140행 가운데 603행을 학습에 사용", "시간 2.6초메모리 0.3 GiB", "시간 12분 34초메모리 4.5 GiBGPU 메모리 17.2 GiB",
        "형식이 자연스러운 답변 25% → 75%", "질문 32개, 0스텝과 20스텝 · 관련 50%",
        "질문 296개에서 240쌍 반복 100 · 미완결 40 · 빈말 채우기 9",
        "마지막 평가 손실 2.500 · 학습 손실 1.000", "과적합", "165쌍으로 학습 42스텝", "80% 67–89판정하지 않음5%", "dpo +3%p",
    ):  # fmt: skip
        assert told in korean, told
    assert "240 pairs from 296 prompts repetition 100" in english and "time 12 min 34 s" in english
    links = re.findall('<a href="(.*?)">', page)
    assert links[:3] == ["../../data/r/sft/report.html", "../../data/r/sft/manifest.json", "sft/README.md"]
    assert all((project / link).is_file() for link in links)
    assert page.count("[U+001B][2J[U+202E]") == 1 and "\x1b" not in page and "<script>alert" not in page


def test_a_folder_name_cannot_be_an_address(tmp_path: Path) -> None:
    stage(tmp_path / "javascript:alert(1)", "export", "1")
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert 'href="javascript%3Aalert%281%29/manifest.json"' in page


def test_a_page_of_ones_own_is_kept_and_ours_is_replaced(project: Path) -> None:
    before = write_index(project).read_bytes()
    assert write_index(project).read_bytes() == before
    (project / "index.html").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="a page of your own"):
        write_index(project)
    assert (project / "index.html").read_text(encoding="utf-8") == "mine"
    with pytest.raises(UserError, match=r"no stage left a manifest\.json"):
        write_index(project / "extension")


def test_the_curves(tmp_path: Path) -> None:
    log = {"log_history": [{"step": 0, "eval_greedy_natural": 0.1}, {"step": 5, "loss": 3.0}, {"step": 15, "loss": 1.0}]}
    write_json(tmp_path / "checkpoint-9/trainer_state.json", {"log_history": [{"step": 5, "loss": 9.0}]})
    write_json(tmp_path / "checkpoint-10/trainer_state.json", log)
    curves = loss_curves(tmp_path, {"stage": "sft", "evaluations": EVALUATIONS})
    assert curves is not None
    assert (curves.low, curves.high, curves.first, curves.last) == (1.0, 3.0, 5, 20)
    assert (curves.train, curves.held_out) == ("0.0,0.0 66.67,100.0", "33.33,50.0 100.0,25.0")
    assert [(point.x, point.y, point.evaluation["verdict"]) for point in curves.points] == [
        (33.33, 50.0, "normal"), (100.0, 25.0, "overfit"),
    ]  # fmt: skip
    flat = loss_curves(tmp_path / "none", {"stage": "dpo", "evaluations": [{**each, "eval_loss": 2.0} for each in EVALUATIONS]})
    assert flat is not None and (flat.train, flat.held_out) == ("", "0.0,50.0 100.0,50.0")
    assert loss_curves(tmp_path / "none", {"stage": "dpo", "evaluations": EVALUATIONS[:1]}) is None
    assert loss_curves(tmp_path, {"stage": "grpo", "evaluations": EVALUATIONS}) is None
    assert loss_curves(tmp_path, {"stage": "sft"}) is None


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(2.6, "2.6초"), (59.4, "59.4초"), (60, "1분 0초"), (754, "12분 34초"), (3600, "1시간 0분"), (7500, "2시간 5분")],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds).ko == told


def test_every_manifest_says_what_its_command_took(tmp_path: Path) -> None:
    write_manifest(tmp_path, {}, [], stage="export")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seconds"] > 0 and manifest["peak_memory_gib"] > 0.01
