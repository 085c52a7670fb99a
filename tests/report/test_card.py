"""The model card and the manifest: what they say, and what they must never say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SHORT_ROWS
from huggingface_hub import ModelCard
from trl import SFTConfig

from align_ko.errors import UserError
from align_ko.manifest import file_hash, masked, masked_command, parent_facts, write_manifest
from align_ko.models.source import ModelSource
from align_ko.process import lock_folder
from align_ko.records import write_json
from align_ko.report.model_card import draw_curves, hub_id, write_card
from align_ko.training import finish
from align_ko.training.finish import push_stage
from align_ko.training.prepare import training_config
from align_ko.training.run_record import check_push

LOG = [
    {"step": 0, "eval_greedy_natural": 0.8, "eval_greedy_stopped": 1.0, "eval_greedy_loops": 0.0,
     "eval_greedy_characters": 131.2, "eval_greedy_collapse": 0.01, "eval_greedy_answered": 32.0},
    {"step": 5, "loss": 1.2},
    {"step": 10, "loss": 0.8},
    {"step": 10, "eval_loss": 1.4},
    {"step": 10, "eval_greedy_natural": 0.875, "eval_greedy_stopped": 1.0, "eval_greedy_loops": 0.03125,
     "eval_greedy_characters": 140.6, "eval_greedy_collapse": 0.02, "eval_greedy_answered": 32.0},
]  # fmt: skip


def manifest(**changes) -> dict:
    return {
        "stage": "sft",
        "recipe": {"merge_adapter": False, "training": {"learning_rate": 5e-4, "seed": 42, "loss_weights": [1.0, 0.5]}},
        "rows": 893,
        "inputs": {"/home/kim/secret/train.jsonl": "ab" * 32},
        "packages": {"torch": "2.13.0"},
        "machine": {"cores": 2, "gpus": ["NVIDIA H100"]},
        "weights": {"from": "best", "step": 10, "metric": "eval_loss", "value": 1.4},
        "git_commit": "0123456789abcdef",
        "format": "459c0de3f42678ef",
        "parent": {"folder": "/home/kim/outputs/start", "manifest_sha256": "cd" * 32},
        **changes,
    }


def test_the_card_in_both_languages(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    text = write_card(folder, manifest(), LOG, "upstage/SOLAR-10.7B-v1.0").read_text()
    data = ModelCard.load(folder / "README.md").data
    assert (data.language, data.library_name, data.base_model) == ("ko", "peft", "upstage/SOLAR-10.7B-v1.0")
    assert data.pipeline_tag == "text-generation" and {"korean", "sft"} <= set(data.tags)
    for half, losses, greedy, kept in (
        (text[text.index("## 한국어") : text.index("## English")], "| 10 | 1.000 | 1.400 | 주의 |",
         "| 10 | 87.5% | – | 판정하지 않음 | 판정하지 않음 | 100.0% | 3.1% | 141 | 0.020 | 32 |",
         "가장 좋았던 10스텝의 체크포인트입니다(eval_loss 1.4)"),
        (text[text.index("## English") :], "| 10 | 1.000 | 1.400 | caution |",
         "| 0 | 80.0% | – | not judged | not judged | 100.0% | 0.0% | 131 | 0.010 | 32 |",
         "the checkpoint of step 10, the best (eval_loss 1.4)"),
    ):  # fmt: skip
        assert losses in half and greedy in half and kept in half and "![curves](curves.png)" in half
        assert "NVIDIA H100" in half and "start `sha256:cdcdcdcdcdcd`" in half and "| learning_rate | 0.0005 |" in half
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "/home" not in text and "kim" not in text and "train.jsonl `sha256:abababababab`" in text
    # one level of politeness: every Korean sentence ends in -ㅂ니다
    ends = re.findall(r"([가-힣]+)\.(?=\s|$)", text[text.index("## 한국어") : text.index("## English")])
    assert len(ends) >= 6 and all(word.endswith("니다") for word in ends), ends


def test_curves_of_a_killed_run_are_removed_by_the_next(tmp_path, monkeypatch):
    def killed(figure, path, **options):
        path.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", killed)
    with pytest.raises(KeyboardInterrupt):
        draw_curves(tmp_path / "curves.png", LOG, [])
    lock_folder(tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if "curves" in path.name]


def test_a_card_without_gate_curves_or_hub_base(tmp_path):
    made = manifest(stage="dpo", recipe={"merge_adapter": True, "training": {}}, parent="someone/else")
    made["weights"] = {"from": "last", "step": 24}
    text = write_card(tmp_path, made, [], str(tmp_path / "base-model")).read_text()
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.base_model is None and data.library_name == "transformers"
    assert "curves" not in text and "자연스러움" not in text and "`base-model`" in text and str(tmp_path) not in text
    assert "893쌍" in text and "마지막 스텝(24)의 가중치입니다." in text
    assert not (tmp_path / "curves.png").exists()


def test_the_card_of_a_distilled_model_names_the_knob(tmp_path):
    recipe = {"merge_adapter": True, "training": {}, "distill": {"repetition_penalty": 1.05}}
    made = manifest(stage="distill", recipe=recipe)
    made["weights"] = {"from": "last", "step": 24}
    text = write_card(tmp_path, made, [], str(tmp_path / "base-model")).read_text()
    assert text.count("| distill.repetition_penalty | 1.05 |") == 2  # Korean and English


@pytest.mark.parametrize(
    ("base", "known"),
    [("upstage/SOLAR-10.7B-v1.0", True), ("/data/solar", False), ("outputs/solar/sft", False), ("~/models/x", False),
     ("quickstart", False), ("./owner/name", False)],
)  # fmt: skip
def test_hub_ids(base, known):
    assert (hub_id(base) == base) is known


# Manifest -----------------------------------------------------------------------------------------------------------------


def test_nothing_private_in_a_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/kim"))
    monkeypatch.setattr(
        "sys.argv", ["/x/run_sft.py", "/home/kim/a.yaml", "--training.hub_token", "hf_1", "--training.hub_token=hf_2"]
    )
    recipe = {"training": {"hub_token": "hf_1", "max_length": 512, "token_count": 3}, "model": "/home/kim/m"}
    made = write_manifest(tmp_path, recipe, [], stage="sft")
    assert made["command"] == ["run_sft.py", "~/a.yaml", "--training.hub_token", "***", "--training.hub_token=***"]
    assert made["recipe"] == {"training": {"hub_token": "***", "max_length": 512, "token_count": 3}, "model": "~/m"}
    assert "hf_" not in (tmp_path / "manifest.json").read_text()
    assert masked({"eos_token": "</s>", "path": "/home/kimchi/x", "all": ("/home/kim",)}) == {
        "eos_token": "</s>", "path": "/home/kimchi/x", "all": ["~"],
    }  # fmt: skip
    key = "sk-" + "a" * 24
    assert masked({"url": "https://me:word@h/v1?api-key=abc&n=2", "model": key, "x": {"apikey": "1"}}) == {
        "url": "https://***@h/v1?api-key=***&n=2", "model": "***", "x": {"apikey": "***"},
    }  # fmt: skip
    assert masked_command([f"--endpoint.extra_body={{k: {key}}}"]) == ["--endpoint.extra_body={k: ***}"]
    words = ["--hub-token=hf_1", "--training", "{'hub_token': 'hf_2', eos_token: </s>}", "--token", "hf_3"]
    assert masked_command(words) == [
        "--hub-token=***", "--training", "{'hub_token': '***', eos_token: </s>}", "--token", "***",
    ]  # fmt: skip


def test_the_parents_manifest_is_named_by_its_hash(tmp_path):
    assert parent_facts(str(tmp_path)) is None
    write_json(tmp_path / "manifest.json", {"stage": "sft", "made_at": "then"})
    digest = file_hash(tmp_path / "manifest.json")
    assert parent_facts(str(tmp_path)) == {
        "folder": str(tmp_path),
        "stage": "sft",
        "made_at": "then",
        "manifest_sha256": digest,
    }


# Loggers and the hub ------------------------------------------------------------------------------------------------------


def test_loggers_and_hub_keys_reach_the_config(tmp_path, monkeypatch):
    silent = training_config(SFTConfig, {"output_dir": str(tmp_path)}, "float32")
    assert silent.hub_strategy == "end" and silent.load_best_model_at_end is False
    monkeypatch.setattr("align_ko.training.prepare.find_spec", lambda name: None)
    assert training_config(SFTConfig, {"output_dir": str(tmp_path)}, "float32").report_to == []
    monkeypatch.setattr("align_ko.training.prepare.find_spec", lambda name: object())
    assert training_config(SFTConfig, {"output_dir": str(tmp_path)}, "float32").report_to == ["tensorboard"]
    asked = {"push_to_hub": True, "hub_model_id": "me/model", "hub_private_repo": True, "report_to": ["wandb", "trackio"]}
    config = training_config(SFTConfig, {"output_dir": str(tmp_path), **asked}, "float32")
    assert {key: getattr(config, key) for key in asked} == asked


@pytest.mark.parametrize(
    ("values", "kept"),
    [({"eval_strategy": "steps", "eval_steps": 5, "save_steps": 10}, True), ({"eval_strategy": "epoch"}, False),
     ({"eval_strategy": "steps", "eval_steps": 4, "save_steps": 10}, False), ({"save_strategy": "no"}, False),
     ({"eval_strategy": "epoch", "save_strategy": "epoch"}, True),
     ({"eval_strategy": "steps", "eval_steps": 5, "save_steps": 5, "load_best_model_at_end": False}, False)],
)  # fmt: skip
def test_the_best_is_kept_wherever_it_can_be(values, kept, tmp_path):
    assert training_config(SFTConfig, {"output_dir": str(tmp_path), **values}, "float32").load_best_model_at_end is kept


def test_what_is_pushed_is_the_result_and_nothing_of_the_run(tmp_path, monkeypatch):
    pushed = {}

    class Hub:
        def upload_folder(self, **given):
            pushed.update(given)
            return "https://hub/commit"

    monkeypatch.setattr(finish, "HfApi", Hub)
    args = SimpleNamespace(push_to_hub=True, hub_revision=None)
    trainer = SimpleNamespace(args=args, hub_model_id="me/model")
    assert push_stage(trainer, tmp_path) == "https://hub/commit"
    assert (pushed["repo_id"], pushed["folder_path"]) == ("me/model", str(tmp_path))
    from huggingface_hub.utils import filter_repo_objects

    files = ["model.safetensors", "README.md", "curves.png", "manifest.json", "checkpoint-5/optimizer.pt", "runs/host/events",
             "greedy_gate/step-000001.jsonl", "training_args.bin", ".align_ko.lock", "training_run.json",
             "adapter/x"]  # fmt: skip
    kept = list(filter_repo_objects(files, ignore_patterns=pushed["ignore_patterns"]))
    assert kept == ["model.safetensors", "README.md", "curves.png", "manifest.json", "adapter/x"]
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    push_stage(trainer, tmp_path)
    assert "adapter/*" in pushed["ignore_patterns"]  # it would name a folder on this machine
    args.push_to_hub = False
    assert push_stage(trainer, tmp_path) is None


def test_an_adapter_of_a_local_base_is_not_pushed(tmp_path):
    with pytest.raises(UserError, match=r"has to name its base there, and .* is a folder on this machine"):
        check_push({"push_to_hub": True}, ModelSource(str(tmp_path)), merged=False)
    check_push({"push_to_hub": True}, ModelSource(str(tmp_path)), merged=True)
    check_push({"push_to_hub": True}, ModelSource("owner/name"), merged=False)
    check_push({}, ModelSource(str(tmp_path)), merged=False)


def test_no_training_text_in_the_card(tmp_path):
    text = write_card(tmp_path, manifest(), LOG, "a/b").read_text()
    # "안녕하세요" is the call in the usage example, and stands in every card
    assert not [question for question, _ in SHORT_ROWS if question in text and question != "안녕하세요"]
