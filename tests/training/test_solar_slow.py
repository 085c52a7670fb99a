"""Every recipe of recipes/solar through the real scripts, on a tiny random Llama of SOLAR's shape (grouped-query attention).

Only the model's path, sizes, data paths and output folders are overridden, and what a CPU cannot do (bfloat16 under
`accelerate launch`). `make test-slow`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import Tiny, make_llama, other_rows, rows, turns

from align_ko.records import read_jsonl, write_jsonl

ROOT = Path(__file__).parents[2]
SMALL = ["--training.max_steps", "2", "--training.eval_steps", "1", "--training.save_steps", "1",
         "--training.logging_steps", "1", "--training.per_device_train_batch_size", "2",
         "--training.gradient_accumulation_steps", "1", "--training.warmup_steps", "0",
         "--gate.prompts", "2", "--gate.prompts_file", "eval.jsonl", "--gate.max_new_tokens", "8",
         "--training.metric_for_best_model", "eval_loss"]  # fmt: skip
FLOAT32 = ["--model.load_in_4bit", "false", "--model.dtype", "float32", "--training.bf16", "false"]  # for ZeRO on a CPU
TOPICS = "경복궁 한라산 김치찌개 지하철 도서관 태풍 독도 훈민정음 고양이 자전거 수영 커피 복숭아 은행나무 축구 우체국".split()

pytestmark = [pytest.mark.slow, pytest.mark.skipif(torch.cuda.is_available(), reason="two processes on one CPU")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working folder with the model, curated rows and preference pairs."""
    folder = tmp_path_factory.mktemp("solar")
    make_llama(folder / "llama")
    write_jsonl(folder / "train.jsonl", rows())
    write_jsonl(folder / "eval.jsonl", other_rows(3))
    (folder / "recipes").symlink_to(ROOT / "recipes")  # their evaluation_files are relative
    pairs = [
        {"id": row["id"], "prompt": row["messages"][:-1], "chosen": row["messages"][-1:],
         "rejected": [{"role": "assistant", "content": "네 네 네 네 네"}], "rejected_finished": n % 2 == 0}
        for n, row in enumerate([*rows(), *other_rows(2)])
    ]  # fmt: skip
    write_jsonl(folder / "pairs.jsonl", pairs[:-2])
    write_jsonl(folder / "pairs_eval.jsonl", pairs[-2:])
    for name in ("zero2", "zero3"):
        text = (ROOT / "accelerate_configs" / f"{name}.yaml").read_text()
        # in the file, not as `--cpu`: with that flag accelerate 1.15 leaves DeepSpeed and the second process out
        text = text.replace("use_cpu: false", "use_cpu: true").replace("mixed_precision: bf16", 'mixed_precision: "no"')
        (folder / f"{name}.yaml").write_text(text)
    return folder


def run(place: Path, *command: str, code: int = 0) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == code, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout + done.stderr


def script(place: Path, name: str, recipe: str, *flags: str, code: int = 0) -> str:
    return run(place, sys.executable, str(ROOT / f"scripts/{name}.py"), recipe_path(recipe), *flags, code=code)


def launch(place: Path, config: str, name: str, recipe: str, *flags: str, code: int = 0) -> str:
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    return run(place, *accelerate, str(ROOT / f"scripts/{name}.py"), recipe_path(recipe), *flags, code=code)


def recipe_path(name: str) -> str:
    return str(ROOT / f"recipes/solar/{name}.yaml")


SFT_FLAGS = ["--model.model_name_or_path", "llama", "--data.train_file", "train.jsonl", "--data.eval_file", "eval.jsonl"]
DPO_FLAGS = ["--model.model_name_or_path", "llama", "--data.train_file", "pairs.jsonl", "--data.eval_file", "pairs_eval.jsonl"]


def absolute(place: Path, flags: list[str]) -> list[str]:
    return [str(place / flag) if flag == "llama" else flag for flag in flags]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def check_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Full (every matrix of both layers, at its whole size), finite, moved from where LoRA starts."""
    weights = adapter(folder)
    sizes = {"q_proj": (64, 64), "k_proj": (64, 32), "v_proj": (64, 32), "o_proj": (64, 64),
             "gate_proj": (64, 128), "up_proj": (64, 128), "down_proj": (128, 64)}  # fmt: skip
    assert len(weights) == 2 * 2 * len(sizes)
    for name, weight in weights.items():
        module, side = name.split(".")[-3:-1]
        size_in, size_out = sizes[module]
        assert weight.shape == ((64, size_in) if side == "lora_A" else (size_out, 64)), name
        assert weight.isfinite().all() and weight.float().abs().max() > 0, name  # lora_B starts at zero
    assert (folder / "align_ko_format.json").is_file() and (folder / "generation_config.json").is_file()
    return weights


@pytest.fixture(scope="module")
def nf4(place) -> str:
    """The whole recipe as it stands, in 4-bit NF4 with double quantisation and bfloat16 compute, one process."""
    return script(place, "run_sft", "sft", *absolute(place, SFT_FLAGS), "--training.output_dir", "nf4", *SMALL)


def test_data(place):
    array = []
    for source, share in (("kullm_v2", 12), ("koalpaca", 12), ("smol_koreantalk", 10), ("kowiki_qa", 6)):
        for n in range(share):
            topic, other = TOPICS[n], TOPICS[(n + 5) % len(TOPICS)]
            answer = (
                f"{topic}에 대해 궁금하셨군요. {topic} 이야기는 {other} 이야기와 함께 읽으시면 더 재미있습니다. "
                f"가까운 곳에서 {topic} 자료를 찾아보시고, 궁금한 점은 {n + 2}번까지 적어 두시면 좋습니다."
            )
            question = f"{topic} 이야기를 {source} 독자에게 {n + 1}분 안에 들려주세요."
            array.append({"messages": turns(question, answer), "source": source})
    array.append({"messages": turns("짧은 답을 받은 질문입니다. 왜 그런가요?", "네."), "source": "kullm_v2"})
    (place / "korean_large_dataset.json").write_text(json.dumps(array, ensure_ascii=False))
    same = ("--near_duplicates.question", "2", "--near_duplicates.answer", "2")  # these rows differ in a few words only
    script(place, "build_sft_data", "data", "--output_dir", "sft_data", *same)
    kept = [*read_jsonl(place / "sft_data/train.jsonl"), *read_jsonl(place / "sft_data/eval.jsonl")]
    assert len(kept) >= 20 and {row["group"] for row in kept} == {"instruction", "dialogue", "knowledge"}
    assert any(row.get("reason") for row in read_jsonl(place / "sft_data/rejected.jsonl"))


def test_sft_in_4_bit(place, nf4):
    check_adapter(place / "nf4")
    assert "audit passed: 9 rows" in nf4 and "saved nf4" in nf4
    manifest = json.loads((place / "nf4/manifest.json").read_text())
    assert manifest["recipe"]["model"]["load_in_4bit"] is True and manifest["stage"] == "sft"


@pytest.fixture(scope="module")
def zero(place):
    """Adapters of SFT and then DPO with two processes, per ZeRO stage."""
    output = {}
    for stage in ("zero2", "zero3"):
        sft, dpo = f"sft_{stage}", f"dpo_{stage}"
        output[sft] = launch(
            place, f"{stage}.yaml", "run_sft", "sft", *absolute(place, SFT_FLAGS), *FLOAT32, *SMALL,
            "--training.output_dir", sft,
        )  # fmt: skip
        output[dpo] = launch(
            place, f"{stage}.yaml", "run_dpo", "dpo", *absolute(place, DPO_FLAGS), *FLOAT32, *SMALL,
            "--model_name_or_path", sft, "--training.output_dir", dpo,
        )  # fmt: skip
    return output


@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_sft_with_two_processes(place, zero, stage):
    check_adapter(place / f"sft_{stage}")
    text = zero[f"sft_{stage}"]
    assert text.count("audit passed") == 1 and text.count(f"saved sft_{stage}") == 1  # one process speaks
    manifest = json.loads((place / f"sft_{stage}/manifest.json").read_text())
    # 9 rows in batches of 2 on 2 processes are 3 steps: 2 steps end at two thirds. Alone, each would be at .4
    state = json.loads((place / f"sft_{stage}/checkpoint-2/trainer_state.json").read_text())
    assert abs(state["epoch"] - 2 / 3) < 1e-6 and len(manifest["evaluations"]) == 2


def test_zero_3_trains_what_zero_2_trains(place, zero):
    two, three = adapter(place / "sft_zero2"), adapter(place / "sft_zero3")
    assert two.keys() == three.keys()
    assert all((two[name] - three[name]).abs().max() < 1e-5 for name in two)


@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_dpo_with_two_processes(place, zero, stage):
    moved, start = check_adapter(place / f"dpo_{stage}"), adapter(place / f"sft_{stage}")
    assert moved.keys() == start.keys() and any(not torch.equal(moved[name], start[name]) for name in moved)
    assert "9 pairs, 4 rejected sides left open" in zero[f"dpo_{stage}"] or "left open" in zero[f"dpo_{stage}"]
    state = json.loads((place / f"dpo_{stage}/checkpoint-2/trainer_state.json").read_text())
    assert abs(state["epoch"] - 2 / 3) < 1e-6


@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_the_first_dpo_loss_is_ln_2(place, zero, stage):
    # loss_type sigmoid alone: the recipe's sft term would stand on top
    launch(
        place, f"{stage}.yaml", "run_dpo", "dpo", *absolute(place, DPO_FLAGS), *FLOAT32, *SMALL, "--training.loss_type",
        "sigmoid", "--training.loss_weights", "1.0", "--model_name_or_path", f"sft_{stage}",
        "--training.output_dir", f"ln2_{stage}",
    )  # fmt: skip
    history = json.loads((place / f"ln2_{stage}/checkpoint-2/trainer_state.json").read_text())["log_history"]
    assert abs(next(entry["loss"] for entry in history if "loss" in entry) - math.log(2)) < 1e-4


def test_an_error_under_accelerate_is_told_once(place):
    text = launch(place, "zero2.yaml", "run_sft", "sft", "--training.learnin_rate", "1", code=1)  # torchrun's own exit code
    assert text.count("error: ") == 1 and "did you mean" in text


def test_preferences(place, nf4):
    script(
        place, "build_preferences", "preferences", "--model_name_or_path", "nf4", "--prompts_file", "train.jsonl",
        "--output_dir", "preferences", "--generation.max_new_tokens", "24", "--generation.batch_size", "4",
        "--pairing.reference_share", "1.0",
    )  # fmt: skip
    pairs = [*read_jsonl(place / "preferences/train.jsonl"), *read_jsonl(place / "preferences/eval.jsonl")]
    assert pairs and all(pair["chosen"][0]["role"] == "assistant" for pair in pairs)
    drawn = list(read_jsonl(place / "preferences/candidates.jsonl"))
    assert sorted({row["setting"] for row in drawn}) == ["cool", "greedy", "warm"] and len(drawn) == 27


def test_evaluate(place, nf4):
    models = f"{{base: {place / 'llama'}, sft: nf4, dpo: nf4}}"
    script(
        place, "evaluate", "evaluate", "--models", models, "--prompts_file", "eval.jsonl", "--output_dir", "evaluation",
        "--max_prompts", "2", "--sampling_prompts", "1", "--generation.max_new_tokens", "12", "--generation.batch_size", "4",
    )  # fmt: skip
    responses = list(read_jsonl(place / "evaluation/responses.jsonl"))
    assert {row["model"] for row in responses} == {"base", "sft", "dpo"}
    held_out = Counter(row["setting"] for row in responses if (row["model"], row["kind"]) == ("sft", "heldout"))
    assert held_out.pop("greedy") == 6 and set(held_out.values()) == {1}  # two of the file and of each suite
    assert (place / "evaluation/scores.json").is_file() and (place / "evaluation/report.html").is_file()


def test_export(place, nf4):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    script(place, "export", "export", "--model_name_or_path", "nf4", "--output_dir", "export", "--dtype", "float32")
    assert (place / "export/Modelfile").is_file()
    exported = AutoModelForCausalLM.from_pretrained(place / "export", dtype=torch.float32)
    base = Tiny(place / "llama").model()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        bare, whole = base(ids).logits, exported(ids).logits
        beside = PeftModel.from_pretrained(base, place / "nf4")(ids).logits
    assert (whole - beside).abs().max() < 1e-4 < (whole - bare).abs().max()
