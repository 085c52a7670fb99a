"""Recipes: what loads, and the exact message for each mistake."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ablate_dpo import AblationRecipe
from align_ko.commands import command_line
from align_ko.errors import UserError
from align_ko.recipe import (
    AlignRecipe,
    DataRecipe,
    DpoRecipe,
    EarlyStopping,
    EvaluateRecipe,
    ExportRecipe,
    GateArgs,
    GrpoRecipe,
    LengthBounds,
    MergeRecipe,
    PreferencesRecipe,
    SftRecipe,
    TrainData,
    check_inputs,
    load_recipe,
    place_of,
    recipe_error,
    recipe_from,
)
from align_ko.recipe.record import TRAINING_RANGES, config_fields
from compare_handbook import CompareRecipe

ROOT = Path(__file__).parents[2]
STAGES = {
    "data": DataRecipe,
    "sft": SftRecipe,
    "preferences": PreferencesRecipe,
    "dpo": DpoRecipe,
    "evaluate": EvaluateRecipe,
    "export": ExportRecipe,
    "align": AlignRecipe,
    "ablation": AblationRecipe,
    "compare": CompareRecipe,
}
SFT = """\
model:
  model_name_or_path: upstage/SOLAR-10.7B-v1.0
  lora_r: 8
data:
  train_file: data/train.jsonl
  eval_file: data/eval.jsonl
training:
  output_dir: outputs/sft
  learning_rate: 1e-4
"""
DATA = """\
sources:
  kullm_v2: {path: nlpai-lab/kullm-v2, group: instruction}
  my.rows: {path: rows.jsonl}
output_dir: data/sft
"""


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "sft.yaml") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def sft(text: str, *flags: str) -> SftRecipe:
    return load_recipe(SftRecipe, [write(text), *flags])


def message(text: str, *flags: str, recipe_class: type = SftRecipe) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe_class, [write(text), *flags])
    return str(caught.value)


# -------------------- values


def test_types_follow_the_dataclass_not_yaml():
    recipe = sft(
        SFT.replace("1e-4", "5e-7")
        + "  save_steps: 100\n  warmup_steps: 0.05\n  run_name: no\n  bf16: yes\n  max_length: null\n"
        + "  model_init_kwargs: {a: 5e-7, b: '5', c: [true, null], d: no}\nmerge_adapter: true\n"
    )
    training = recipe.training
    assert training["learning_rate"] == 5e-7
    assert training["save_steps"] == 100 and isinstance(training["save_steps"], int)
    assert training["warmup_steps"] == 0.05
    assert training["run_name"] == "no"
    assert training["bf16"] is True
    assert training["max_length"] is None
    assert training["model_init_kwargs"] == {"a": 5e-7, "b": "5", "c": [True, None], "d": "no"}
    assert recipe.model.lora_r == 8
    assert recipe.model.lora_target_modules[0] == "q_proj"
    assert recipe.early_stopping == EarlyStopping()
    assert recipe.merge_adapter is True


def test_a_whole_number_under_a_float_field_of_ours_becomes_a_float():
    recipe = load_recipe(DataRecipe, [write(DATA + "weights: {instruction: 1}\nmax_samples: 100_000\n")])
    assert recipe.weights == {"instruction": 1.0} and isinstance(recipe.weights["instruction"], float)
    assert recipe.max_samples == 100_000


def test_korean_path_with_spaces_crlf_and_bom():
    text = SFT.replace("data/train.jsonl", "자료 모음/훈련 1.jsonl")
    folder = Path("레시피 모음")
    folder.mkdir()
    path = folder / "나의 sft.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    recipe = load_recipe(SftRecipe, [str(path)])
    assert recipe.data.train_file == "자료 모음/훈련 1.jsonl"
    path.write_bytes(text.replace("lora_r", "lora_rr").replace("\n", "\r\n").encode())
    with pytest.raises(UserError) as caught:
        load_recipe(SftRecipe, [str(path)])
    assert str(caught.value) == "레시피 모음/나의 sft.yaml:3: model.lora_rr: unknown key; did you mean 'lora_r'?"


# -------------------- mistakes

MISTAKES = [
    ("lora_r: 8", "lora_rank: 8", "sft.yaml:3: model.lora_rank: unknown key; did you mean 'lora_r'?"),
    (
        "  learning_rate",
        "  learnin_rate",
        "sft.yaml:9: training.learnin_rate: unknown key; did you mean 'learning_rate'?",
    ),
    (
        "  learning_rate",
        "  warmup_ratio",
        "sft.yaml:9: training.warmup_ratio: unknown key; did you mean 'warmup_steps'?",
    ),
    (
        "data:",
        "learning_rate: 1\ndata:",
        "sft.yaml:4: learning_rate: unknown key; did you mean 'training.learning_rate'?",
    ),
    ("  learning_rate", "  zzz", "sft.yaml:9: training.zzz: unknown key; expected a field of SFTConfig"),
    (
        "data:",
        "zzz: 1\ndata:",
        "sft.yaml:4: zzz: unknown key; "
        "expected one of model, data, training, early_stopping, merge_adapter, merge_start, gate, distill, resume",
    ),
    ("lora_r: 8", "lora_r: many", "sft.yaml:3: model.lora_r: 'many' does not fit; expected a whole number"),
    ("lora_r: 8", "lora_r: 8.5", "sft.yaml:3: model.lora_r: '8.5' does not fit; expected a whole number"),
    ("lora_r: 8", "lora_r:", "sft.yaml:3: model.lora_r: there is no value; expected a whole number"),
    ("lora_r: 8", "lora_r: [8]", "sft.yaml:3: model.lora_r: a list does not fit; expected a whole number"),
    ("lora_r: 8", "lora_r: {a: 8}", "sft.yaml:3: model.lora_r: a mapping does not fit; expected a whole number"),
    ("lora_r: 8", "use_peft: 1", "sft.yaml:3: model.use_peft: '1' does not fit; expected true or false"),
    (
        "lora_r: 8",
        "dtype: bf16",
        "sft.yaml:3: model.dtype: 'bf16' does not fit; expected one of auto, bfloat16, float16, float32;"
        " did you mean 'bfloat16'?",
    ),
    (
        "lora_r: 8",
        "lora_target_modules: q_proj",
        "sft.yaml:3: model.lora_target_modules: 'q_proj' does not fit; expected a list (text)",
    ),
    ("1e-4", "fast", "sft.yaml:9: training.learning_rate: 'fast' does not fit; expected a number"),
    ("1e-4", "0", "sft.yaml:9: training.learning_rate: 0 cannot work; expected a number above 0"),
    ("lora_r: 8", "lora_r: 0", "sft.yaml:3: model.lora_r: 0 cannot work; expected 1 or more"),
    (
        "  learning_rate: 1e-4",
        "  eval_strategy: step",
        "sft.yaml:9: training.eval_strategy: 'step' does not fit; expected one of no, steps, epoch; did you mean 'steps'?",
    ),
    ("  eval_file: data/eval.jsonl\n", "", "sft.yaml:4: data.eval_file: this key is missing; expected text"),
    (
        "  output_dir: outputs/sft\n",
        "",
        "sft.yaml:7: training.output_dir: this key is missing; expected the folder for the checkpoint",
    ),
    (SFT[SFT.index("training") :], "", "sft.yaml: training: this key is missing; expected a mapping of keys to values"),
    ("lora_r: 8", "lora_r: 8\n  lora_r: 9", "sft.yaml:4: lora_r: this key stands twice (first on line 3)"),
    (SFT, "", "sft.yaml: the recipe is empty; expected a mapping of keys to values"),
    (SFT, "- a\n- b\n", "sft.yaml:1: the recipe is not a mapping; expected lines such as 'key: value'"),
    (
        "lora_r: 8",
        "lora_r: !!python/name:os.system x",
        "sft.yaml:3: model.lora_r: 'x' does not fit; expected a whole number",
    ),
    ("lora_r: 8", "lora_r: !own x", "sft.yaml:3: the YAML tag !own means nothing here; expected a plain value"),
    ("lora_r: 8", "lora_r: &a [*a]", "sft.yaml:3: this YAML alias contains itself"),
    (
        "  lora_r",
        "\tlora_r",
        "sft.yaml:3: broken YAML: while scanning for the next token, found character '\\t' that cannot start any token",
    ),
    ("data:", "extends: gone.yaml\ndata:", "sft.yaml:4: extends: no such recipe file: gone.yaml"),
    (
        "data/train.jsonl",
        '"data/train.jsonl',
        "sft.yaml:5: broken YAML: while scanning a quoted scalar, found unexpected end of stream",
    ),
    ("data/train.jsonl", "a\x01b", "sft.yaml:5: broken YAML: character U+0001 is not allowed"),
    ("data:", "extends: [a]\ndata:", "sft.yaml:4: extends: is not the path of a recipe; expected one path"),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_mistakes_in_the_file(old, new, expected):
    assert old in SFT
    assert message(SFT.replace(old, new, 1)) == expected


def test_training_options_that_do_not_go_together():
    best = SFT + "  load_best_model_at_end: true\n"
    assert message(best) == (
        "sft.yaml:10: training.load_best_model_at_end: save_strategy is steps and eval_strategy is no;"
        " expected the same for both, or every best model is lost"
    )
    assert message(best + "  eval_strategy: steps\n  eval_steps: 30\n  save_steps: 100\n") == (
        "sft.yaml:13: training.save_steps: 100 cannot work; expected a multiple of eval_steps (30)"
    )
    dpo = "model_name_or_path: a/b\ndata: {train_file: a, eval_file: b}\ntraining:\n  output_dir: x\n"
    dpo += "  loss_type: [sigmoid, sft]\n  loss_weights: [1.0]\n"
    assert message(dpo, recipe_class=DpoRecipe) == (
        "sft.yaml:6: training.loss_weights: 1 weights for 2 losses; expected one weight for each loss_type"
    )
    assert message(dpo.replace("[1.0]", "[1.0, -1]"), recipe_class=DpoRecipe) == (
        "sft.yaml:6: training.loss_weights[1]: -1 cannot work; expected 0 or more"
    )


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (
            "weights: {instruction: 0}",
            "sft.yaml:5: weights: the weights sum to 0; expected at least one weight above 0",
        ),
        ("weights: {instruction: -1}", "sft.yaml:5: weights.instruction: -1 cannot work; expected 0 or more"),
        ("weights: {instructon: 1}", "sft.yaml:5: weights.instructon: unknown group; did you mean 'instruction'?"),
        (
            "eval_share: 1.5",
            "sft.yaml:5: eval_share: 1.5 cannot work; expected a share from 0 up to, but not including, 1",
        ),
        (
            "preference_share: 0.95",
            "sft.yaml:5: preference_share: with eval_share (0.05) no row is left to train on; expected less than 0.95",
        ),
        (
            "lengths:\n  dialogue:\n    max_answer: 3",
            "sft.yaml:7: lengths.dialogue.max_answer: 3 cannot work; expected min_answer (50) or more",
        ),
    ],
)
def test_impossible_values_of_a_data_recipe(added, expected):
    assert message(DATA + added, recipe_class=DataRecipe) == expected


def test_missing_and_unreadable_recipe_files():
    write(SFT)
    for argv, expected in [
        (["sfd.yaml"], "sfd.yaml: no such recipe file; did you mean 'sft.yaml'?"),
        (["."], ".: this is a folder, not a recipe file; did you mean './sft.yaml'?"),
    ]:
        with pytest.raises(UserError) as caught:
            load_recipe(SftRecipe, argv)
        assert str(caught.value) == expected
    Path("old.yaml").write_bytes("a: b\nb: 한국".encode("cp949"))
    with pytest.raises(UserError) as caught:
        load_recipe(SftRecipe, ["old.yaml"])
    assert str(caught.value) == "old.yaml:2: not UTF-8 text; expected a file saved as UTF-8"


# -------------------- extends


def test_extends_chains_and_merges_deeply():
    write(SFT, "recipes/solar/sft.yaml")
    write("extends: ../solar/sft.yaml\nmodel: {lora_r: 16}\n", "recipes/가 나/mid.yaml")
    write("extends: ../가 나/mid.yaml\ntraining: {learning_rate: 5e-5}\n", "recipes/mine/sft.yaml")
    recipe = load_recipe(SftRecipe, ["recipes/mine/sft.yaml", "--training.seed", "7"])
    assert (recipe.model.lora_r, recipe.training["learning_rate"], recipe.training["seed"]) == (16, 5e-5, 7)
    assert recipe.data.train_file == "data/train.jsonl"  # a path stays as written
    assert place_of(recipe, "model.lora_r") == place_of(recipe, "model.lora_r").__class__("recipes/가 나/mid.yaml", 2)
    assert place_of(recipe, "training.learning_rate").file == "recipes/mine/sft.yaml"
    assert place_of(recipe, "data.train_file").file == "recipes/solar/sft.yaml"


def test_a_mistake_in_the_parent_names_the_parent():
    write(SFT.replace("lora_r", "lora_q"), "recipes/base/sft.yaml")
    write("extends: ../base/sft.yaml\n", "recipes/mine/sft.yaml")
    with pytest.raises(UserError) as caught:
        load_recipe(SftRecipe, ["recipes/mine/sft.yaml"])
    assert str(caught.value) == "recipes/base/sft.yaml:3: model.lora_q: unknown key; did you mean 'lora_r'?"


def test_a_circle_of_extends():
    write("extends: b.yaml\n", "a.yaml")
    write("\nextends: a.yaml\n", "b.yaml")
    with pytest.raises(UserError) as caught:
        load_recipe(SftRecipe, ["a.yaml"])
    assert str(caught.value) == "b.yaml:2: extends: recipes extend each other in a circle: a.yaml → b.yaml → a.yaml"


# -------------------- flags


def test_flags_override_and_the_last_one_wins():
    recipe = sft(
        SFT,
        *["--training.learning-rate", "1e-3", "--training.learning_rate=5e-5", "--model.lora-r", "4"],
        *[
            "--training.max_steps",
            "-1",
            "--model.lora_target_modules",
            "q_proj",
            "v_proj",
            "--early_stopping.patience",
            "3",
        ],
        *["--model.use_rslora", "--training.gradient_checkpointing_kwargs", "{use_reentrant: false}"],
        *["--training.report_to", "none", "--training.run_name", "첫 번째 시도", "--training.max_length", "null"],
    )
    assert recipe.training["learning_rate"] == 5e-5
    assert recipe.training["max_steps"] == -1
    assert recipe.training["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    assert recipe.training["report_to"] == "none"
    assert recipe.training["run_name"] == "첫 번째 시도"
    assert recipe.training["max_length"] is None
    assert recipe.training["output_dir"] == "outputs/sft"
    assert recipe.model.lora_r == 4
    assert recipe.model.lora_target_modules == ("q_proj", "v_proj")
    assert recipe.model.use_rslora is True
    assert recipe.early_stopping.patience == 3


def test_flags_reach_into_free_mappings():
    recipe = load_recipe(
        DataRecipe,
        [
            write(DATA),
            *["--sources.kullm_v2.path", "내 파일.json", "--sources.my.rows.group", "dialogue"],
            *["--weights.dialogue", "0.5", "--lengths.dialogue.max_answer", "900"],
            *["--sources", "{extra: {path: extra.jsonl, columns: {question: Q}}}"],
        ],
    )
    assert recipe.sources["kullm_v2"].path == "내 파일.json"
    assert recipe.sources["kullm_v2"].group == "instruction"
    assert recipe.sources["my.rows"].group == "dialogue"
    assert recipe.sources["extra"].columns == {"question": "Q"}
    # One part of a default changes, the rest of it stays.
    assert recipe.weights == {"instruction": 0.60, "dialogue": 0.5, "knowledge": 0.15}
    assert recipe.lengths["dialogue"] == LengthBounds(min_question=2, min_answer=10, max_answer=900)
    assert recipe.lengths["knowledge"].min_question == 8


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            "--training.learnin-rate 3",
            "--training.learnin-rate: unknown flag; did you mean '--training.learning_rate'?",
        ),
        ("--learning_rate 3", "--learning_rate: unknown flag; did you mean '--training.learning_rate'?"),
        ("--training.warmup_ratio=1", "--training.warmup_ratio: unknown flag; did you mean '--training.warmup_steps'?"),
        ("--qqqq 3", "--qqqq: unknown flag; expected a key of the recipe (--help lists them)"),
        ("--model.lora_r a", "--model.lora_r: 'a' does not fit; expected a whole number"),
        ("--model.lora-r 0", "--model.lora_r: 0 cannot work; expected 1 or more"),
        ("--model.lora_r", "--model.lora_r: a value is missing; expected a whole number"),
        ("--model.lora_r 1 2", "--model.lora_r: takes one value, not 2; expected a whole number"),
        (
            "--model.dtype bf16",
            "--model.dtype: 'bf16' does not fit; expected one of auto, bfloat16, float16, float32; did you mean 'bfloat16'?",
        ),
        ("--training x", "--training: this is a group of keys; expected one of them, '--training.KEY value'"),
        ("--training.loss_type", "--training.loss_type: a value is missing; expected one of nll, dft, chunked_nll"),
        (
            "--model.lora_target_modules [a",
            "--model.lora_target_modules: cannot read '[a': expected ',' or ']', but got '<stream end>'",
        ),
        ("other.yaml", "'other.yaml' belongs to no flag; expected --key value"),
    ],
)
def test_mistakes_on_the_command_line(flags, expected):
    assert message(SFT, *flags.split()) == f"command line: {expected}"


def test_a_flag_does_not_take_over_the_blame_for_a_missing_key():
    text = SFT.replace("  model_name_or_path: upstage/SOLAR-10.7B-v1.0\n", "")
    assert message(text, "--model.lora_r", "4") == "sft.yaml:1: model.model_name_or_path: this key is missing; expected text"


# -------------------- inputs


def inputs_message(recipe) -> str:
    with pytest.raises(UserError) as caught:
        check_inputs(recipe)
    return str(caught.value)


def test_missing_inputs_name_the_key_and_the_command():
    recipe = sft(SFT)
    assert inputs_message(recipe) == (
        "sft.yaml:5: data.train_file: there is no file data/train.jsonl;"
        " expected the output of 'align-ko curate' (run that first)"
    )
    write(DATA, "data.yaml")
    assert "'align-ko curate data.yaml' (run that first)" in inputs_message(recipe)
    own = sft(SFT, "--distill.repetition_penalty", "1.05")
    assert "expected the output of 'align-ko evaluate' (run that first)" in inputs_message(own)
    for script in ("build_sft_data", "prepare_model", "run_sft"):  # as in a checkout
        write("", f"scripts/{script}.py")
    assert "'python scripts/build_sft_data.py data.yaml' (run that first)" in inputs_message(recipe)
    assert command_line("prepare_model", "quickstart") == "python scripts/prepare_model.py quickstart"
    assert command_line("run_sft", "sft.yaml", launch=True) == "accelerate launch scripts/run_sft.py sft.yaml"
    set_apart = sft(SFT, "--data.train_file", "data/preferences.jsonl")
    assert "data.yaml' (run that first, with preference_share above 0)" in inputs_message(set_apart)
    write("", "data/train.jsonl")
    assert inputs_message(recipe).startswith("sft.yaml:6: data.eval_file: there is no file data/eval.jsonl;")
    write("", "data/eval.jsonl")
    check_inputs(recipe)  # the model is a hub id
    Path("outputs").mkdir()
    assert inputs_message(sft(SFT, "--model.model_name_or_path", "outputs/base")) == (
        "command line: --model.model_name_or_path: there is no folder outputs/base;"
        " expected a model folder or a hub id such as owner/name"
    )
    Path("outputs/base").mkdir()
    assert "the folder outputs/base holds no model" in inputs_message(sft(SFT, "--model.model_name_or_path", "outputs/base"))
    write("{}", "outputs/base/config.json")
    check_inputs(sft(SFT, "--model.model_name_or_path", "outputs/base"))


def test_a_data_source_may_be_a_hub_id_but_not_a_missing_file():
    recipe = load_recipe(DataRecipe, [write(DATA)])
    assert inputs_message(recipe) == (
        "sft.yaml:3: sources.my.rows.path: there is no file rows.jsonl;"
        " expected a file, a folder or a hub id such as nlpai-lab/kullm-v2"
    )
    write("", "rows.jsonl")
    check_inputs(recipe)
    assert inputs_message(load_recipe(DataRecipe, [write(DATA), "--profanity_file", "none.txt"])) == (
        "command line: --profanity_file: there is no file none.txt; expected an existing file"
    )


def make_model(folder: str) -> None:
    write("{}", f"{folder}/config.json")


READS_ITS_OUTPUT = {
    "a source": (DataRecipe, "sources: {a: {path: out/train.jsonl}}\noutput_dir: out\n", "output_dir"),
    "a source of any name": (DataRecipe, "sources: {a: {path: out/raw.jsonl}}\noutput_dir: ./x/../out\n", "output_dir"),
    "a source through a link": (DataRecipe, "sources: {a: {path: link/raw.jsonl}}\noutput_dir: out\n", "output_dir"),
    "a source that is a link": (DataRecipe, "sources: {a: {path: one.jsonl}}\noutput_dir: out\n", "output_dir"),
    "an output that is a link": (DataRecipe, "sources: {a: {path: rows.jsonl}}\noutput_dir: linked\n", "output_dir"),
    "a folder of sources": (DataRecipe, "sources: {a: {path: raw}}\noutput_dir: raw\n", "output_dir"),
    "a folder above": (DataRecipe, "sources: {a: {path: raw}}\noutput_dir: raw/new/curated\n", "output_dir"),
    "training rows": (SftRecipe, "model: {model_name_or_path: a/b}\ndata: {train_file: out/train.jsonl, eval_file: a.jsonl}\n"
                      "training: {output_dir: out}\n", "training.output_dir"),
    "the base": (SftRecipe, "model: {model_name_or_path: base}\ndata: {train_file: rows.jsonl, eval_file: rows.jsonl}\n"
                 "training: {output_dir: base}\n", "training.output_dir"),
    "the start's adapter": (DpoRecipe, "model_name_or_path: base/adapter\ndata: {train_file: rows.jsonl, eval_file: a.jsonl}\n"
                            "training: {output_dir: base}\n", "training.output_dir"),
    "prompts": (PreferencesRecipe, "model_name_or_path: base\nprompts_file: out/train.jsonl\noutput_dir: out\n", "output_dir"),
    "a judged model": (EvaluateRecipe, "models: {m: base}\nprompts_file: rows.jsonl\noutput_dir: base\n", "output_dir"),
    "what is exported": (ExportRecipe, "model_name_or_path: base\noutput_dir: base\n", "output_dir"),
    "where rounds start": (AlignRecipe, "start: base\npreferences: {recipe: p.yaml}\ndpo: {recipe: d.yaml}\n"
                           "gate: {prompts_file: rows.jsonl}\noutput_dir: base\n", "output_dir"),
}  # fmt: skip


@pytest.mark.parametrize(("stage", "text", "key"), READS_ITS_OUTPUT.values(), ids=READS_ITS_OUTPUT)
def test_no_output_is_an_input(stage, text, key):
    for file in ("out/train.jsonl", "out/raw.jsonl", "raw/a.jsonl", "rows.jsonl", "a.jsonl"):
        write("{}", file)
    make_model("base")
    make_model("base/adapter")
    Path("link").symlink_to("out")
    Path("one.jsonl").symlink_to("out/raw.jsonl")
    Path("linked").mkdir()
    Path("linked/train.jsonl").symlink_to("../rows.jsonl")
    said = inputs_message(load_recipe(stage, [write(text, "it.yaml")]))
    assert f" {key}: " in said and said.startswith("it.yaml:") and ("which the stage reads (" in said or "reads all of" in said)


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00002.safetensors", "pytorch_model.bin", "model.gguf"])
def test_no_model_is_written_over_one_that_is_not_ours(name):
    make_model("base")
    write("{}", f"somebody/{name}")
    recipe = load_recipe(ExportRecipe, [write("model_name_or_path: base\noutput_dir: somebody\n", "it.yaml")])
    said = f"it.yaml:2: output_dir: somebody contains {name}, which no run of ours recorded: it would be overwritten"
    assert inputs_message(recipe).startswith(said)
    write("{}", "a.jsonl")
    own = sft(SFT, "--training.output_dir", "somebody", "--data.train_file", "a.jsonl", "--data.eval_file", "a.jsonl")
    assert "command line: --training.output_dir: somebody contains" in inputs_message(own)
    write("{}", "somebody/.align_ko.lock.json")  # an export that was cut off here goes on
    check_inputs(recipe)


def test_a_model_that_was_not_written_to_its_end_is_not_read():
    make_model("base")
    write("{}", "base/.align_ko.lock.json")
    recipe = load_recipe(ExportRecipe, [write("model_name_or_path: base\noutput_dir: next\n", "it.yaml")])
    assert "base has no manifest.json: what was writing it did not come to its end" in inputs_message(recipe)
    write("{}", "base/manifest.json")
    check_inputs(recipe)


def test_an_output_beside_its_inputs_is_fine():
    make_model("base")
    write("{}", "raw/a.jsonl")
    write("{}", "out2/old.jsonl")
    data = "sources: {a: {path: raw}, b: {path: owner/name}}\noutput_dir: out2\n"
    check_inputs(load_recipe(DataRecipe, [write(data, "data.yaml")]))
    check_inputs(load_recipe(ExportRecipe, [write("model_name_or_path: base\noutput_dir: base/merged\n", "export.yaml")]))


def test_a_file_system_without_case_has_one_folder_under_both_names(monkeypatch):
    """As on macOS: `Out` exists where `out` does, and they are the same file."""
    write("{}", "out/raw.jsonl")
    exists, same = Path.exists, Path.samefile

    def fold(path):
        return Path(str(path).replace("Out", "out"))

    monkeypatch.setattr(Path, "exists", lambda path, **options: exists(fold(path)))
    monkeypatch.setattr(Path, "samefile", lambda path, other: same(fold(path), fold(other)))
    recipe = load_recipe(DataRecipe, [write("sources: {a: {path: out/raw.jsonl}}\noutput_dir: Out\n", "data.yaml")])
    assert "Out is or contains out/raw.jsonl, which the stage reads (sources.a.path)" in inputs_message(recipe)


def test_later_stages_name_the_stage_before():
    text = "model_name_or_path: outputs/x/sft\nprompts_file: p.jsonl\noutput_dir: o\n"
    assert inputs_message(load_recipe(PreferencesRecipe, [write(text)])) == (
        "sft.yaml:1: model_name_or_path: there is no folder outputs/x/sft;"
        " expected the output of 'align-ko sft sft.yaml' (run that first)"
    )
    models = "models: {base: a/b, dpo: outputs/x/dpo}\nprompts_file: p.jsonl\noutput_dir: o\n"
    assert inputs_message(load_recipe(EvaluateRecipe, [write(models, "evaluate.yaml")])) == (
        "evaluate.yaml:1: models.dpo: there is no folder outputs/x/dpo; expected the output of 'align-ko dpo' (run that first)"
    )


def test_recipe_error_still_works_on_a_changed_copy():
    recipe = sft(SFT)
    assert str(recipe_error(recipe, "model.lora_r", "too large")) == "sft.yaml:3: model.lora_r: too large"
    assert str(recipe_error(dataclasses.replace(recipe), "model.lora_r", "too large")) == "model.lora_r: too large"


# -------------------- numbers, sizes, anything


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("1e-4", "1e400", "sft.yaml:9: training.learning_rate: '1e400' does not fit; expected a number"),
        ("1e-4", "nan", "sft.yaml:9: training.learning_rate: 'nan' does not fit; expected a number"),
        ("1e-4", ".inf", "sft.yaml:9: training.learning_rate: '.inf' does not fit; expected a number"),
        (
            "learning_rate: 1e-4",
            "seed: -1",
            "sft.yaml:9: training.seed: -1 cannot work; expected a whole number from 0 to 4294967295",
        ),
        (
            "learning_rate: 1e-4",
            f"seed: {2**32}",
            "sft.yaml:9: training.seed: 4294967296 cannot work; expected a whole number from 0 to 4294967295",
        ),
        (
            "lora_r: 8",
            f"lora_r: {'9' * 400}",
            f"sft.yaml:3: model.lora_r: {'9' * 40}… (400 characters) cannot work; expected at most {2**63 - 1}",
        ),
        (
            "lora_r: 8",
            f"lora_r: {'9' * 5000}",
            f"sft.yaml:3: model.lora_r: '{'9' * 40}… (5000 characters)' does not fit; expected a whole number",
        ),
        (
            "learning_rate: 1e-4",
            f"max_length: {'9' * 30}",
            f"sft.yaml:9: training.max_length: {'9' * 30} cannot work; expected at most {2**63 - 1}",
        ),
        (
            "learning_rate: 1e-4",
            "max_steps: 0",
            "sft.yaml:9: training.max_steps: 0 cannot work; expected 1 or more, or -1 for whole epochs",
        ),
        ("data/eval.jsonl", "''", "sft.yaml:6: data.eval_file: there is no value; expected text"),
        (
            "outputs/sft",
            "''",
            "sft.yaml:8: training.output_dir: this key is missing; expected the folder for the checkpoint",
        ),
    ],
)
def test_values_out_of_range(old, new, expected):
    assert message(SFT.replace(old, new, 1)) == expected


def test_an_empty_output_dir_is_refused():
    text = DATA.replace("data/sft", "''")
    expected = "sft.yaml:4: output_dir: there is no value; expected text"
    assert message(text, recipe_class=DataRecipe) == expected
    with pytest.raises(UserError, match="output_dir: there is no value"):
        load_recipe(DataRecipe, [write(DATA), "--output_dir", ""])
    assert message(DATA + "seed: -1\n", recipe_class=DataRecipe) == (
        "sft.yaml:5: seed: -1 cannot work; expected a whole number from 0 to 4294967295"
    )


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghij"))
MAPPINGS = "x0: &x0 {a: 1, b: 2, c: 3}\n" + "".join(
    f"x{n}: &x{n} {{{', '.join(f'{key}: *x{n - 1}' for key in 'abcdef')}}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize("bomb", [BOMB, MAPPINGS], ids=["lists", "mappings"])
def test_aliases_that_stand_for_too_many_values(bomb):
    found = message(DATA + bomb, recipe_class=DataRecipe)
    assert found.startswith("sft.yaml:") and found.endswith(
        ": more than 20000 values, with YAML aliases written out; expected a recipe"
    )


@pytest.mark.parametrize("levels", [40, 400, 40_000])
def test_deep_nesting(levels):
    found = message(DATA + "a: " + "[" * levels + "]" * levels, recipe_class=DataRecipe)
    assert found.startswith("sft.yaml") and found.endswith(": nested more than 30 levels deep; expected a recipe")


def test_a_file_that_is_no_recipe():
    assert message("가" * 90_000) == "sft.yaml: more than 256 KiB: this is no recipe"
    for argv in (["a\0b.yaml"], ["가" * 300]):
        with pytest.raises(UserError, match="this recipe file cannot be read"):
            load_recipe(SftRecipe, argv)
    assert "this recipe file cannot be read" in message('extends: "a\\0b.yaml"\n')


def outcome(recipe_class, argv) -> str:
    """The recipe's class or the message; any other exception fails the test."""
    try:
        return type(load_recipe(recipe_class, argv)).__name__
    except UserError as error:
        return str(error)


words = st.sampled_from([*"0 -1 1e400 nan true no null ~ x".split(), "9" * 30, "", "\0", "\ud800", "5e-7", "a b", "가"])
keys = st.sampled_from(
    "model data training sources output_dir path lora_r seed weights candidates gate sft set extends x".split()
) | st.text(max_size=4)
values = st.recursive(
    words | st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.binary(max_size=200), st.sampled_from(sorted(STAGES)))
def test_any_bytes_give_a_recipe_or_a_message(content, stage):
    Path("any.yaml").write_bytes(content)
    assert outcome(STAGES[stage], ["any.yaml"])


@quick
@given(st.dictionaries(keys, values, max_size=5), st.sampled_from(sorted(STAGES)), st.booleans())
def test_any_mapping_gives_a_recipe_or_a_message(content, stage, as_json):
    text = json.dumps(content) if as_json else yaml.safe_dump(content, allow_unicode=True)
    Path("any.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert outcome(STAGES[stage], ["any.yaml"])


@quick
@given(st.text("{}[]&*a1:-,'\"|>!%@`# \n\t~?", max_size=60), st.sampled_from(sorted(STAGES)))
def test_anything_like_yaml_gives_a_recipe_or_a_message(text, stage):
    Path("any.yaml").write_text(text, encoding="utf-8")
    assert outcome(STAGES[stage], ["any.yaml"])


@quick
@given(
    st.lists(
        st.text(max_size=6) | st.sampled_from(["--model.lora_r", "--training", "--training.seed", "--x=", "--", "[", "{a"])
    )
)
def test_any_flags_give_a_recipe_or_a_message(words):
    Path("sft.yaml").write_text(SFT, encoding="utf-8")
    try:
        assert outcome(SftRecipe, ["sft.yaml", *words])
    except SystemExit:
        assert {"-h", "--help"} & {*words}


@quick
@given(st.dictionaries(keys.filter(str.isidentifier), values, max_size=5), st.sampled_from(sorted(STAGES)))
def test_any_arguments_give_a_recipe_or_a_message(content, stage):
    try:
        assert recipe_from(STAGES[stage], **content)
    except UserError as error:
        assert str(error)


# -------------------- a recipe from Python values


def test_a_recipe_from_values_is_checked_as_a_file_is():
    made = recipe_from(
        SftRecipe,
        model={"model_name_or_path": "a/b", "lora_r": 8},
        data=TrainData("train.jsonl", "eval.jsonl"),
        training={"output_dir": Path("out"), "learning_rate": 5e-5, "save_steps": 10, "bf16": True, "max_length": None},
    )
    text = "model: {model_name_or_path: a/b, lora_r: 8}\ndata: {train_file: train.jsonl, eval_file: eval.jsonl}\n"
    text += "training: {output_dir: out, learning_rate: 5e-5, save_steps: 10, bf16: true, max_length: null}\n"
    assert made == sft(text)
    for keys, expected in [
        ({"lora_rr": 8}, "model.lora_rr: unknown key; did you mean 'lora_r'?"),
        ({"lora_r": 0}, "model.lora_r: 0 cannot work; expected 1 or more"),
        ({"lora_r": "many"}, "model.lora_r: 'many' does not fit; expected a whole number"),
        ({"use_peft": 1}, "model.use_peft: '1' does not fit; expected true or false"),
    ]:
        with pytest.raises(UserError) as caught:
            recipe_from(SftRecipe, model={"model_name_or_path": "a/b", **keys}, data=made.data, training=made.training)
        assert str(caught.value) == expected
    with pytest.raises(UserError, match="the gate looks at every evaluation, and there is none"):
        recipe_from(SftRecipe, model=made.model, data=made.data, training=made.training, gate=GateArgs(prompts=4))


def test_a_record_is_checked_where_it_is_built():
    with pytest.raises(ValidationError):
        GateArgs(prompts=-1)
    with pytest.raises(ValidationError):
        dataclasses.replace(GateArgs(), batch_size=0)
    with pytest.raises(ValidationError):
        GateArgs(promts=1)


# -------------------- TRL


def test_without_trl_installed():
    hidden = "import importlib.util\nimportlib.util.find_spec = lambda name: None\n"
    done = run(write(hidden + SCRIPT, "script.py"), write(SFT))
    assert done.stderr == "error: trl is not installed; expected pip install 'align-ko[train]'\n"


@pytest.mark.parametrize("name", ["SFTConfig", "DPOConfig", "GRPOConfig"])
def test_fields_read_from_source_are_those_of_the_real_class(name):
    import trl

    real = {item.name: item for item in dataclasses.fields(getattr(trl, name)) if item.init}
    read = config_fields(name)
    assert list(read) == list(real)
    for key, item in real.items():
        if isinstance(item.default, bool | int | float | str) and not hasattr(item.default, "value") and key != "optim":
            assert read[key].default == item.default, key


def test_every_range_of_training_belongs_to_a_field():
    known = {name for kind in ("SFTConfig", "DPOConfig", "GRPOConfig") for name in config_fields(kind)} | {"GRPOConfig.beta"}
    assert [pattern for pattern in TRAINING_RANGES if not any(fnmatchcase(name, pattern) for name in known)] == []


# -------------------- a script

SCRIPT = """\
from align_ko.errors import run_script
from align_ko.recipe import SftRecipe, check_inputs, load_recipe
run_script(lambda: print(load_recipe(SftRecipe, description="Fine-tune.")))
"""


def run(*words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, *options, *words], env=env, capture_output=True, text=True, encoding="utf-8", check=False
    )


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        (SFT.replace("lora_r", "lora_q"), (), "error: sft.yaml:3: model.lora_q: unknown key; did you mean 'lora_r'?\n"),
        (
            SFT,
            ("--model.lora-q", "3"),
            "error: command line: --model.lora-q: unknown flag; did you mean '--model.lora_r'?\n",
        ),
        (
            SFT,
            ("--model.lora-r", "b"),
            "error: command line: --model.lora_r: 'b' does not fit; expected a whole number\n",
        ),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(text, flags, expected):
    script = write(SCRIPT, "script.py")
    done = run(script, write(text), *flags)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_no_recipe():
    done = run(write(SCRIPT, "script.py"))
    assert done.returncode == 2
    assert done.stderr == (
        "error: no recipe given; expected 'script.py RECIPE.yaml [--key value …]' (script.py --help lists the keys)\n"
    )


def test_help_imports_nothing_heavy():
    script = write(SCRIPT, "script.py")
    done = run(script, "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.replace("│", " ").split())
    assert "usage: script.py RECIPE.yaml" in text and "Fine-tune." in text
    assert "--model.lora_r INT Rank of the adapter's matrices. (1 or more; default: 64)" in text
    assert "--model.model_name_or_path TEXT Hub id or folder." in text
    assert "--training.loss_type" in text and "--training.learning_rate FLOAT" in text
    assert "Any field of TRL's SFTConfig may stand here." in text
    assert "neftune_noise_alpha" in text
    done = run(script, write(SFT), "--help", options=("-X", "importtime"))
    assert "(1 or more; default: 8)" in " ".join(done.stdout.replace("│", " ").split())
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "trl", "datasets", "numpy", "accelerate", "peft"}


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("run_*.py")), ids=lambda path: path.name)
def test_help_of_the_training_scripts(script):
    done = run(str(script), "--help")
    assert done.returncode == 0, done.stderr


# -------------------- our recipes


FURTHER = {"rounds": AlignRecipe, "grpo": GrpoRecipe, "distill": SftRecipe, "own_answers": EvaluateRecipe,
           "merge": MergeRecipe}  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_our_recipes_load(path):
    recipe = load_recipe((STAGES | FURTHER)[path.stem], [str(path)])
    assert any(dataclasses.asdict(recipe).values())


def test_there_are_recipes():
    stages = (set(STAGES) | set(FURTHER)) - {"ablation", "compare", "rounds", "grpo", "merge"}
    assert {path.stem for path in (ROOT / "recipes/solar").glob("*.yaml")} == stages


def test_solar_stages_are_wired_by_path():
    folder = ROOT / "recipes/solar"
    names = [path.stem for path in folder.glob("*.yaml")]
    data, tune, pairs, dpo, judged, export, align = (
        load_recipe(STAGES[name], [str(folder / f"{name}.yaml")]) for name in STAGES if name in names
    )
    assert tune.data.train_file == f"{data.output_dir}/train.jsonl"
    assert tune.data.eval_file == f"{data.output_dir}/eval.jsonl"
    assert judged.prompts_file in data.evaluation_files == pairs.evaluation_files  # kept out of training
    # what gates and chooses does not judge: three sets
    gates = {tune.gate.prompts_file or tune.data.eval_file, dpo.gate.prompts_file, align.gate.prompts_file}
    assert gates == {tune.data.eval_file} and tune.data.eval_file not in (tune.data.train_file, *data.evaluation_files)
    for stage in (tune, dpo):  # chosen by answers, bounded in time, stopped by eval loss
        assert stage.training["metric_for_best_model"] == "greedy_natural" and stage.training["load_best_model_at_end"]
        assert 0 < stage.gate.prompts <= 64 and stage.gate.max_seconds <= 120 and stage.early_stopping.patience == 1
    assert data.max_samples * data.eval_share <= 500 and 0 < align.gate.max_prompts <= 200 and judged.sampling_prompts <= 60
    own, distil = (load_recipe(FURTHER[name], [str(folder / f"{name}.yaml")]) for name in ("own_answers", "distill"))
    assert distil.distill.wanted and distil.model.model_name_or_path == own.models["own"] == export.output_dir
    assert distil.data.train_file == f"{own.output_dir}/responses.jsonl" and own.prompts_file == pairs.prompts_file
    assert align.distill.recipe == "recipes/solar/distill.yaml" and align.evaluate.recipe == "recipes/solar/evaluate.yaml"
    assert judged.models["base"] == tune.model.model_name_or_path == "upstage/SOLAR-10.7B-Instruct-v1.0"
    assert pairs.prompts_file == f"{data.output_dir}/preferences.jsonl" and data.preference_share > 0
    assert tune.training["output_dir"] == pairs.model_name_or_path == dpo.model_name_or_path == judged.models["sft"]
    assert dpo.data.train_file == f"{pairs.output_dir}/train.jsonl"
    assert dpo.training["output_dir"] == judged.models["dpo"] == export.model_name_or_path
    assert (align.start, align.gate.prompts_file) == (tune.training["output_dir"], tune.data.eval_file)


@pytest.mark.parametrize("path", sorted((ROOT / "accelerate_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_accepts_its_config(path):
    from accelerate.commands.launch import _validate_launch_command as validate
    from accelerate.commands.launch import launch_command_parser

    args = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    args, defaults, _ = validate(args)
    assert defaults.to_dict()
    assert args.use_deepspeed == path.stem.startswith("zero")
    assert args.use_fsdp == (path.stem == "fsdp")
    if args.use_fsdp:
        assert int(args.fsdp_version) == 2
