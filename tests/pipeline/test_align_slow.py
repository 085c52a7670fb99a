"""Rounds, ablation and comparison with the real scripts on a tiny model: killed at any moment they go on, repeating nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import SHORT_ROWS, make_llama, turns
from test_training import train_sft

from align_ko.manifest import is_unfinished
from align_ko.models.load import load_for_inference
from align_ko.records import read_jsonl, write_json, write_jsonl

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]

RECIPES = {
    "pref": """\
model_name_or_path: sft
prompts_file: train.jsonl
output_dir: x
max_prompts: 6
candidates: {warm: {temperature: 0.5, top_p: 0.9, repetition_penalty: 1.1}}
generation: {max_new_tokens: 40, batch_size: 2, dtype: float32}
pairing: {reference_share: 1.0, length_tolerance: 9.0}
""",
    "dpo": """\
model_name_or_path: sft
merge_adapter: true
model: {model_name_or_path: llama, dtype: float32, lora_r: 8}
data: {train_file: a, eval_file: b}
training: {output_dir: x, max_steps: 2, per_device_train_batch_size: 2, learning_rate: 1e-3, loss_type: [sigmoid],
           max_length: 512, gradient_checkpointing: false, logging_steps: 1, save_strategy: "no", bf16: false}
""",
    "sft": """\
model: {model_name_or_path: llama, dtype: float32, lora_r: 8}
data: {train_file: a, eval_file: b}
training: {output_dir: x, max_steps: 2, per_device_train_batch_size: 2, max_length: 512, gradient_checkpointing: false,
           save_strategy: "no", bf16: false}
""",
    "evaluate": """\
models: {base: llama}
prompts_file: gate.jsonl
output_dir: x
sampling: {}
probes: []
generation: {max_new_tokens: 16, dtype: float32}
""",
    "data": """\
sources: {raw: {path: train.jsonl, group: dialogue}, worse: {path: spoilt/train.jsonl, group: dialogue}}
output_dir: x
""",
    "align": """\
start: sft
output_dir: out
rounds: 2
min_gain: 0
min_pairs: 1
interpolation: 0.8
preferences: {recipe: pref.yaml}
dpo: {recipe: dpo.yaml}
# one token is never a natural answer, so no round is refused for its luck with two prompts
gate: {prompts_file: gate.jsonl, max_new_tokens: 1, dtype: float32, max_collapse: 1, min_relevant: 0, min_distinct: 0,
       max_nll_rise: 9, min_median_characters: 0, max_median_characters: 4000}
""",
    "ablation": """\
start: sft
output_dir: ablated
train_file: out/round-1/preferences/train.jsonl
eval_file: out/round-1/preferences/eval.jsonl
seeds: [1]
dpo: {recipe: dpo.yaml}
sft: {recipe: sft.yaml}
gate: {prompts_file: gate.jsonl, max_new_tokens: 16, dtype: float32}
settings:
  plain: {}
  broken: {set: {training: {loss_type: [exo_pair]}}}
  best-of-n: {stage: sft, note: the chosen side alone}
""",
    "compare": """\
align: align.yaml
data: data.yaml
spoilt_key: spoilt.key.jsonl
output_dir: compared
sft: {recipe: sft.yaml, set: {merge_adapter: true}}
dpo: {recipe: dpo.yaml}
evaluate: {recipe: evaluate.yaml}
variants:
  same-steps: {}
  same-minutes: {minutes_of_ours: true}
  hotter: {dpo: {training: {learning_rate: 2e-3}}}
""",
}
KILLS = 12
GATE = [
    ("바다는 왜 파란가요?", "바다는 하늘빛을 받아 파랗게 보입니다."),
    ("김치는 어떻게 담그나요?", "배추를 소금에 절여 담급니다."),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("align")
    tiny = make_llama(folder / "llama")
    train_sft(tiny, folder / "sft", steps=3)  # knows its rows so badly that there is something to repair
    manifest = {"recipe": {"training": {"max_steps": 3}, "data": {"train_file": "train.jsonl"}}}
    (folder / "sft/manifest.json").write_text(json.dumps(manifest))
    for name, text in RECIPES.items():
        (folder / f"{name}.yaml").write_text(text)
    rows = [{"id": f"r{n}", "messages": turns(*pair), "source": "raw"} for n, pair in enumerate(SHORT_ROWS)]
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "gate.jsonl", [{"id": f"g{n}", "messages": turns(*pair)} for n, pair in enumerate(GATE)])
    write_jsonl(folder / "spoilt/train.jsonl", [{"messages": turns("참, 한국의 수도는?", "서울 서울 서울 서울.")}])
    write_jsonl(folder / "spoilt.key.jsonl", [{"file": "train.jsonl", "line": 1, "kind": "repetition", "clean_line": 1}])
    return folder


def start(place: Path, script: str, recipe: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUNBUFFERED": "1"}
    home = "benchmarks" if script in ("ablate_dpo", "compare_handbook") else "scripts"
    command = [sys.executable, str(ROOT / home / f"{script}.py"), recipe]
    with open(place / "log", "a") as log:
        return subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True)


def finish(place: Path, script: str, recipe: str, code: int = 0) -> str:
    (place / "log").unlink(missing_ok=True)
    returned = start(place, script, recipe).wait(timeout=600)
    said = (place / "log").read_text()
    assert returned == code, said[-6000:]
    return said


def made(folder: Path) -> dict[str, str]:
    """Finished stages and when they were."""
    return {
        str(file.parent.relative_to(folder)): json.loads(file.read_text())["made_at"]
        for file in folder.rglob("manifest.json")
        if not is_unfinished(file.parent)
    }


def wait_for_stages(group: int) -> None:
    """Until no stage that a killed align.py left behind is at work; before, the command would be refused."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail("a stage did not end")


@pytest.fixture(scope="module")
def rounds(place) -> Path:
    """Kills, half of them of the whole tree and half of the parent alone, then a run to the end."""
    chance, seen = random.Random(0), {}
    for attempt in range(KILLS):
        process = start(place, "align", "align.yaml")
        time.sleep(chance.uniform(1, 9))
        if attempt % 2:
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for_stages(process.pid)
        now = made(place / "out")
        assert {name: now.get(name) for name in seen} == seen, "a finished stage was made again"
        seen = now
    said = finish(place, "align", "align.yaml")
    assert "all 2 rounds are done" in said
    return place / "out"


def test_after_any_kill_all_is_there_once(rounds):
    for number in (1, 2):
        drawn = list(read_jsonl(rounds / f"round-{number}/preferences/candidates.jsonl"))
        assert Counter((row["id"], row["setting"]) for row in drawn).most_common(1)[0][1] == 1
        assert len(drawn) == 12
    assert set(made(rounds)) == {
        "start/gate", "interpolated/model", "interpolated/gate", "best",
        *(f"round-{n}/{stage}" for n in (1, 2) for stage in ("preferences", "dpo", "gate")),
    }  # fmt: skip
    first = json.loads((rounds / "round-2/dpo/manifest.json").read_text())
    assert first["first_logged_loss"] == pytest.approx(0.6931, abs=1e-4) and first["parent"] == "out/round-1/dpo/adapter"
    asked = [{row["id"] for row in read_jsonl(rounds / f"round-{n}/preferences/candidates.jsonl")} for n in (1, 2)]
    assert len(asked[0]) == 6 and len(asked[1] - asked[0]) == 2  # 8 prompts, 6 a round: the two that were left come first


def test_the_same_command_again_does_nothing(rounds, place):
    before = made(rounds)
    said = finish(place, "align", "align.yaml")
    assert made(rounds) == before and said.count("done before") == 10 and "not made yet" not in said


def test_best_is_a_plain_model_with_the_best_rounds_answers(rounds, place, monkeypatch):
    monkeypatch.chdir(place)
    best = json.loads((rounds / "best.json").read_text())
    assert best["interpolated"] and best["checkpoint"] == "out/interpolated/model"
    ids = torch.tensor([[1, 300, 301, 302]])
    logits = [load_for_inference(str(path), "float32")[0](ids).logits for path in (rounds / "best", best["checkpoint"])]
    assert (logits[0] - logits[1]).abs().max() == 0 and not (rounds / "best/adapter_config.json").exists()


def test_the_last_stage_distils(rounds, place, monkeypatch):
    """A round, then training on the model's own answers with SFT's recipe; a second command finds all of it done."""
    text = RECIPES["align"].replace("output_dir: out", "output_dir: distilled").replace("rounds: 2", "rounds: 1")
    text = text.replace("interpolation: 0.8\n", "").replace("max_new_tokens: 1,", "max_new_tokens: 24,")
    text += "distill: {recipe: sft.yaml, set: {distill: {repetition_penalty: 1.2}, data: {eval_file: gate.jsonl}}}\n"
    (place / "distil.yaml").write_text(text)
    said = finish(place, "align", "distil.yaml")
    best = json.loads((place / "distilled/best.json").read_text())
    assert best["distilled"] and best["checkpoint"] == "distilled/distilled/model"
    folder = place / "distilled/distilled"
    manifest = json.loads((folder / "model/manifest.json").read_text())
    assert manifest["stage"] == "distill" and manifest["recipe"]["distill"]["repetition_penalty"] == 1.2
    own = list(read_jsonl(folder / "answers/responses.jsonl"))
    assert manifest["rows"] == len(own) == 6 and all(row["model"] == "distilled" for row in own)  # as many as a round asks
    again = finish(place, "align", "distil.yaml")
    assert "not made yet" not in again and again.count("done before") == said.count("not made yet")


def test_ablation(rounds, place):
    said = finish(place, "ablate_dpo", "ablation.yaml", code=2)
    assert "1 of 3 runs failed: broken/seed-1" in said
    table = (place / "ablated/ablation.md").read_text()
    result = json.loads((place / "ablated/ablation.json").read_text())
    assert set(result["runs"]["plain"]) == set(result["runs"]["best-of-n"]) == {"1"} and result["runs"]["broken"] == {}
    assert "| best-of-n | " in table and "- best-of-n: the chosen side alone" in table and "- broken/seed-1 failed" in table
    before = made(place / "ablated")
    finish(place, "ablate_dpo", "ablation.yaml", code=2)
    assert made(place / "ablated") == before and len(before) == 6


def test_comparison(rounds, place):
    # attempts that were killed left no time: how much of ours is known hangs on where the kills fell
    write_json(place / "out/round-1/dpo/times.json", {"seconds": 60.0})
    said = finish(place, "compare_handbook", "compare.yaml")
    table = (place / "compared/compare.md").read_text()
    for name in ("ours-sft", "ours", "same-steps-sft", "same-steps", "same-minutes", "hotter"):
        assert f"| {name} | " in table, said[-3000:]
    pairs = [*read_jsonl(place / "compared/pairs/train.jsonl"), *read_jsonl(place / "compared/pairs/eval.jsonl")]
    assert Counter(pair["origin"] for pair in pairs)["spoilt_copy"] == 1
    steps = {name: json.loads((place / "compared" / name / "dpo/manifest.json").read_text())["recipe"]["training"]["max_steps"]
             for name in ("same-steps", "same-minutes", "hotter")}  # fmt: skip
    assert steps["same-steps"] == steps["hotter"] == 4 and steps["same-minutes"] > 4
    assert not (place / "compared/hotter/sft").exists()  # the same SFT as the first variant's
    before = made(place / "compared")
    finish(place, "compare_handbook", "compare.yaml")
    assert made(place / "compared") == before
