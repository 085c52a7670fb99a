"""Ablation and comparison: what is trained on what, who wins, and what the other way's rows and pairs are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import turns
from test_rounds import DPO, GATE, GOOD

from ablate_dpo import AblationRecipe, ablation_table, chosen_rows, mean_measures, plan_run, plan_start, winner
from align_ko.errors import UserError
from align_ko.recipe import AcceptanceArgs, DataRecipe, load_recipe
from align_ko.records import write_json, write_jsonl
from compare_handbook import CompareRecipe, longer, plan_variant, read_ours, steps_of
from off_policy import off_policy_pairs, raw_conversations, sft_rows

ABLATION = """\
start: outputs/sft
output_dir: outputs/ablation
train_file: pairs.jsonl
eval_file: held_out.jsonl
dpo: {recipe: dpo.yaml}
sft: {recipe: sft.yaml}
gate: {prompts_file: gate.jsonl}
settings:
  base: {}
  hot: {set: {training: {learning_rate: 1e-3, loss_type: [sigmoid_norm], beta: 5}}, note: hotter}
  best-of-n: {stage: sft, set: {training: {learning_rate: 2e-4}}}
"""
SFT = """\
model: {model_name_or_path: quickstart, lora_r: 16}
data: {train_file: a.jsonl, eval_file: b.jsonl}
training: {output_dir: outputs/sft, learning_rate: 5e-4}
"""
COMPARE = """\
align: align.yaml
data: data.yaml
spoilt_key: spoilt.key.jsonl
output_dir: outputs/compare
sft: {recipe: sft.yaml}
dpo: {recipe: dpo.yaml}
evaluate: {recipe: evaluate.yaml}
variants:
  plain: {}
  ours: {sft: {training: {learning_rate: 1e-4}}}
  beta: {dpo: {training: {beta: 0.5}}}
"""


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {"dpo": DPO, "sft": SFT, "ablation": ABLATION, "compare": COMPARE}.items():
        Path(f"{name}.yaml").write_text(text)


# -------------------- ablation


def test_settings_differ_only_in_what_they_say():
    recipe = load_recipe(AblationRecipe, ["ablation.yaml"])
    (base, judged), (hot, _) = (plan_run(recipe, name, 7) for name in ("base", "hot"))
    assert base.recipe.model_name_or_path == hot.recipe.model_name_or_path == "outputs/sft"
    assert base.recipe.merge_adapter is False  # dozens of merged models would fill the disk
    differing = {key for key in hot.recipe.training if hot.recipe.training[key] != base.recipe.training.get(key)}
    assert differing == {"learning_rate", "loss_type", "beta", "output_dir"} and hot.recipe.training["seed"] == 7
    assert hot.recipe.data.train_file == base.recipe.data.train_file == "pairs.jsonl"
    assert judged.recipe.models == {"base-seed-7": "outputs/ablation/base/seed-7/model"}


def test_best_of_n_is_fine_tuning_of_the_merged_start():
    recipe = load_recipe(AblationRecipe, ["ablation.yaml"])
    _, merged = plan_start(recipe)
    train, _ = plan_run(recipe, "best-of-n", 7)
    assert (merged.script, merged.recipe.model_name_or_path, merged.recipe.dtype) == ("export", "outputs/sft", "float32")
    assert (train.script, train.recipe.model.model_name_or_path) == ("run_sft", "outputs/ablation/start-merged")
    assert train.recipe.model.lora_r == 16 and train.recipe.training["learning_rate"] == 2e-4
    assert (
        train.recipe.data.train_file == "outputs/ablation/chosen/train.jsonl"
        and train.recipe.model.model_name_or_path == str(merged.folder)
    )
    pair = {
        "id": "p",
        "prompt": turns("질문", "답")[:1],
        "chosen": turns("질문", "좋은 답")[1:],
        "rejected": turns("질문", "나쁜 답")[1:],
    }
    write_jsonl("pairs.jsonl", [pair])
    assert chosen_rows("pairs.jsonl") == [{"id": "p", "messages": turns("질문", "좋은 답"), "source": "best-of-n"}]
    Path("ablation.yaml").write_text(ABLATION[: ABLATION.index("  best-of-n")])
    assert [stage.title for stage in plan_start(load_recipe(AblationRecipe, ["ablation.yaml"]))] == ["start/gate"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sft: {recipe: sft.yaml}\n", "", "ablation.yaml:10: settings.best-of-n.stage: there is no SFT recipe to start from"),
        ("  base:", "  start:", "ablation.yaml:9: settings.start: cannot be a folder's name here"),
        ("  base:", "  a/b:", "ablation.yaml:9: settings.a/b: cannot be a folder's name here"),
    ],
)
def test_mistakes_in_settings(old, new, said):
    Path("ablation.yaml").write_text(ABLATION.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_recipe(AblationRecipe, ["ablation.yaml"])
    assert str(caught.value).startswith(said)


def test_a_wrong_key_of_a_setting_is_told_with_its_line():
    Path("ablation.yaml").write_text(ABLATION.replace("beta: 5", "bta: 5"))
    recipe = load_recipe(AblationRecipe, ["ablation.yaml"])
    with pytest.raises(UserError, match=r"^ablation.yaml:10: training.bta: unknown key; did you mean 'beta'\?"):
        plan_run(recipe, "hot", 1)


RUNS = {
    "base": {1: GOOD | {"natural": 0.80}, 2: GOOD | {"natural": 0.84}},
    "hot": {1: GOOD | {"natural": 0.96}, 2: GOOD | {"natural": 0.94, "collapse": 0.2}},
    "mild": {1: GOOD | {"natural": 0.85}, 2: GOOD | {"natural": 0.83, "chrf": None}},
    "gone": {},
}


def test_the_winner_holds_every_limit_in_every_seed():
    assert winner(RUNS, GOOD, GATE) == "mild"
    assert winner({"hot": RUNS["hot"]}, GOOD, GATE) is None
    assert winner(RUNS, GOOD, AcceptanceArgs("g", max_collapse=0.5)) == "hot"
    averaged = mean_measures(RUNS["mild"])
    assert averaged["natural"] == pytest.approx(0.84) and averaged["chrf"] is None


def test_the_table_of_an_ablation():
    recipe = load_recipe(AblationRecipe, ["ablation.yaml", "--seeds", "1", "2"])
    table = ablation_table(recipe, GOOD, RUNS, {"hot": 1.25}, {"gone/seed-1": "exit code 1"})
    lines = table.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:6]] == ["start", "hot", "mild", "base"]  # by mean share
    assert "| hot | 95.0 (94.0 to 96.0) |" in table and "| 1.2 | collapse (1 of 2) |" in table
    assert "**mild**" in table and "- hot: hotter\n" in table and "- gone/seed-1 failed: exit code 1" in table


# -------------------- comparison


@pytest.fixture
def raw() -> DataRecipe:
    """Four clean rows, one that repeats an evaluation prompt, one that is broken; a spoilt copy of the second clean one."""
    rows = [
        {"messages": turns(f"{name}에 대해 알려 주세요.", f"{name} 이야기입니다.")}
        for name in ("경복궁", "한라산", "김치", "독도")
    ]
    rows.append({"messages": turns("태풍은 어떻게 생기나요?", "더운 바다에서 생깁니다.")})
    rows.append({"messages": [{"role": "user", "content": "답이 없습니다."}]})
    write_jsonl("raw/talk.jsonl", rows)
    write_jsonl("spoilt/talk.jsonl", [{"messages": turns("참, 한라산에 대해 알려 주세요.", "한라산 한라산 한라산 한라산.")}])
    write_jsonl("spoilt.key.jsonl", [{"file": "talk.jsonl", "line": 1, "kind": "repetition", "clean_line": 2}])
    write_jsonl("eval.jsonl", [{"messages": turns("태풍은 어떻게 생기나요?", "…")}])
    Path("data.yaml").write_text(
        "sources: {talk: {path: raw/talk.jsonl}, talk_spoilt: {path: spoilt/talk.jsonl}}\n"
        "output_dir: x\nevaluation_files: [eval.jsonl]\n"
    )
    return load_recipe(DataRecipe, ["data.yaml"])


def test_raw_rows_are_not_filtered_but_hold_no_evaluation_prompt(raw):
    rows = raw_conversations(raw)
    assert len(rows) == 5 and sum("한라산 한라산" in row.messages[-1]["content"] for row in rows) == 1
    assert not any("태풍" in row.messages[0]["content"] for row in rows)
    train, held_out = sft_rows(rows, seed=1, eval_share=0.2)
    assert (len(train), len(held_out)) == (4, 1) and {row["id"] for row in train}.isdisjoint(row["id"] for row in held_out)


def test_pairs_come_from_other_writers(raw):
    pairs = off_policy_pairs(raw_conversations(raw), "spoilt.key.jsonl", 4, seed=1)
    assert sorted(pair["origin"] for pair in pairs) == ["other_answer"] * 3 + ["spoilt_copy"]
    for pair in pairs:
        asked, chosen, rejected = (pair[side][-1]["content"] for side in ("prompt", "chosen", "rejected"))
        assert chosen == f"{asked.removesuffix('에 대해 알려 주세요.')} 이야기입니다."
        assert rejected != chosen and (pair["origin"] == "other_answer" or rejected == "한라산 한라산 한라산 한라산.")
    assert len({pair["id"] for pair in pairs}) == 4
    assert off_policy_pairs(raw_conversations(raw), "spoilt.key.jsonl", 4, seed=1) == pairs
    assert {pair["origin"] for pair in off_policy_pairs(raw_conversations(raw), "", 3, seed=1)} == {"other_answer"}


def finished(folder: str, rows: int, seconds: float = 0.0, **training) -> None:
    write_jsonl(f"{folder}/rows.jsonl", [{}] * rows)
    recipe = {"training": training, "data": {"train_file": f"{folder}/rows.jsonl"}}
    write_json(f"{folder}/manifest.json", {"recipe": recipe, "too_long": ["x"]})
    write_json(f"{folder}/times.json", {"seconds": seconds})


def test_steps_are_counted_from_what_was_trained():
    finished("a", 18, per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=2)
    assert steps_of(Path("a")) == 6  # 17 rows, 8 a step: 3 steps an epoch
    finished("b", 18, max_steps=5, per_device_train_batch_size=4)
    assert steps_of(Path("b")) == 5
    assert longer((100, 50), took=60, ours=90) == (150, 75) and longer((100, 50), took=90, ours=60) == (100, 50)
    assert longer((100, 50), took=70, ours=90) == longer((100, 50), took=70, ours=91) == (130, 65)  # 1.286 times as long


def test_our_run_is_read_up_to_its_best_round():
    text = "start: sft\noutput_dir: ours\npreferences: {recipe: p}\ndpo: {recipe: d}\ngate: {prompts_file: g}\n"
    Path("align.yaml").write_text(text)
    recipe = load_recipe(CompareRecipe, ["compare.yaml"])
    with pytest.raises(UserError, match=r"expected python scripts/align\.py align\.yaml"):
        read_ours(recipe)
    finished("sft", 9, max_steps=7)
    for number in (1, 2):
        finished(f"ours/round-{number}/dpo", 20, 10.0, max_steps=3 + number)
        finished(f"ours/round-{number}/preferences", 0, 30.0)
        write_jsonl(f"ours/round-{number}/preferences/train.jsonl", [{}] * 20)
        write_json(f"ours/round-{number}/gate/times.json", {"seconds": 5.0})
    write_json("ours/start/gate/times.json", {"seconds": 5.0})
    write_json("ours/rounds.json", {"outcomes": [{"name": name} for name in ("start", "round-1", "round-2")]})
    write_json("ours/best.json", {"round": "round-1"})  # the second was refused: its pairs and steps are not in the result
    ours = read_ours(recipe)
    assert (ours.start, ours.result, ours.sft_steps, ours.dpo_steps, ours.pairs) == ("sft", "ours/best", 7, 4, 20)
    assert ours.seconds == 95  # but its time was spent

    passes = [{"name": "distilled", "verdict": {"accepted": True}}, {"name": "distilled-2", "verdict": {"accepted": False}}]
    for one in passes:
        finished(f"ours/{one['name']}/model", 20, 20.0, max_steps=25)
        write_json(f"ours/{one['name']}/answers/times.json", {"seconds": 7.0})
    write_json("ours/rounds.json", {**json.loads(Path("ours/rounds.json").read_text()), "distilled": passes})
    ours = read_ours(recipe)
    assert (ours.dpo_steps, ours.pairs, ours.seconds) == (29, 40, 149)  # 20 pairs, 20 answers of the accepted pass


def test_variants_with_the_same_sft_share_it():
    recipe = load_recipe(CompareRecipe, ["compare.yaml"])
    plans = {name: plan_variant(recipe, name, (30, 20)) for name in recipe.variants}
    folders = {name: (sft.recipe.training["output_dir"], dpo.recipe.model_name_or_path) for name, (sft, dpo) in plans.items()}
    shared, own = "outputs/compare/plain/sft", "outputs/compare/ours/sft"
    assert folders == {"plain": (shared, shared), "beta": (shared, shared), "ours": (own, own)}
    assert {(sft.recipe.training["max_steps"], dpo.recipe.training["max_steps"]) for sft, dpo in plans.values()} == {(30, 20)}
    assert plans["ours"][0].recipe.training["learning_rate"] == 1e-4 and plans["beta"][1].recipe.training["beta"] == 0.5
    assert json.loads(json.dumps(plans["beta"][1].recipe.data.train_file)) == "outputs/compare/pairs/train.jsonl"
