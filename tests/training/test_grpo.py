"""GRPO: what answers earn, which of them are greedy, whole runs of the script, and canaries of TRL's seams."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import MULTI_TURN, SHORT_ROWS, rows, turns
from datasets import Dataset
from test_resume import Killed, cut_at_call
from test_training import sft  # noqa: F401  (a fixture)
from training_place import make_place, run_here, weights
from trl import GRPOConfig, GRPOTrainer

from align_ko.errors import UserError
from align_ko.korean import assess
from align_ko.preferences.judges import closeness, variety
from align_ko.preferences.rewards import JudgeReward, reward_functions
from align_ko.recipe import GrpoRecipe, RewardArgs, check_inputs, recipe_from
from align_ko.records import parse_prompt, write_jsonl
from align_ko.training.audit import AuditError
from align_ko.training.grpo import DEFAULTS, AlignGRPOTrainer, audit_rollouts, prompt_dataset
from align_ko.training.prepare import training_config

QUESTION = "물은 몇 도에서 끓나요?"
REFERENCE = "물은 섭씨 100도에서 끓습니다. 높은 산에서는 기압이 낮아 더 낮은 온도에서 끓습니다."
GOOD = "물은 섭씨 100도에서 끓습니다. 산 위에서는 기압이 낮아서 조금 더 낮은 온도에서 끓습니다."
SCORE = assess(GOOD, QUESTION).score
LOOP = "물은 끓습니다. " * 12


# What an answer earns ---------------------------------------------------------------------------------------------------


def earned(text: str, finished: bool = True, reference: str | None = REFERENCE, **weights: float) -> dict[str, float | None]:
    args = RewardArgs(variety=1.0, **weights)
    names = ("naturalness", "reference", "variety", "length")
    return {name: JudgeReward(name, args).reward(QUESTION, text, finished, reference) for name in names}


def test_a_fault_and_a_cut_off_answer_earn_nothing_for_form():
    good, loop, cut = earned(GOOD), earned(LOOP), earned(GOOD, finished=False)
    assert good["naturalness"] == SCORE > 0.9 and loop["naturalness"] == cut["naturalness"] == 0.0
    assert cut["reference"] == good["reference"] == min(1.0, 2 * closeness(GOOD, REFERENCE))
    assert loop["variety"] == variety(LOOP) < 0.2 < good["variety"]
    assert loop["reference"] < good["reference"]


def test_an_answer_outside_the_window_earns_less_and_one_without_reference_nothing_for_it():
    right, long = earned(GOOD), earned(f"{GOOD} {GOOD.replace('물', '순수한 물')}")
    assert right["length"] == 1.0 and 0 < long["length"] < 1
    assert long["length"] == pytest.approx(2 - len(f"{GOOD} {GOOD.replace('물', '순수한 물')}") / len(REFERENCE) / 1.5)
    assert earned("네.")["length"] == pytest.approx(2 / len(REFERENCE) / 0.5)
    bare = earned(GOOD, reference=None)
    assert bare["length"] is None and bare["reference"] is None and bare["naturalness"] == SCORE


def test_trl_gets_the_named_rewards_and_their_weights():
    functions, factors = reward_functions(RewardArgs(naturalness=2.0, length=0.0, repetition=0.5))
    assert factors == [2.0, 1.0, 0.5]
    assert [one.__name__ for one in functions] == ["naturalness", "reference", "repetition_penalty_reward"]
    columns = {"text": [GOOD, LOOP], "finished": [True, True], "reference": [REFERENCE, None], "greedy": [True, False]}
    prompts = [turns(QUESTION, "")[:1]] * 2
    by_name = [one(prompts=prompts, completions=[], completion_ids=[[1, 2, 3, 4], [5] * 5], **columns) for one in functions]
    assert by_name[0] == [SCORE, 0.0] and by_name[1][1] is None and by_name[2] == [0.0, pytest.approx(-2 / 3)]


# The rollouts -----------------------------------------------------------------------------------------------------------


def grpo_trainer(tiny, folder: Path, **options):
    model, tokenizer = tiny.model(), tiny.tokenizer()
    data, long = prompt_dataset(tokenizer, [parse_prompt(row) for row in rows()], 512)
    values = {
        "output_dir": str(folder), "max_steps": 1, "per_device_train_batch_size": 6, "num_generations": 3,
        "max_completion_length": 10, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True,
        "save_strategy": "no", "use_cpu": True, "temperature": 1.3, **DEFAULTS,
    }  # fmt: skip
    values |= {"reward_weights": [1.0], **{key: value for key, value in options.items() if key != "greedy_rollout"}}
    config = training_config(GRPOConfig, values, "float32")
    trainer = AlignGRPOTrainer(
        model=model, args=config, reward_funcs=[JudgeReward("naturalness", RewardArgs())], train_dataset=data,
        processing_class=tokenizer, greedy_rollout=options.get("greedy_rollout", True),
    )  # fmt: skip
    assert long == []
    return trainer, tokenizer


def greedy_ids(tiny, ids: list[int], limit: int) -> list[int]:
    tokenizer, given = tiny.tokenizer(), torch.tensor([ids])
    made = tiny.model().generate(
        input_ids=given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=limit,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return made[0, len(ids) :].tolist()


def test_the_first_answer_of_each_group_is_greedy_and_no_other(gemma, tmp_path):
    trainer, tokenizer = grpo_trainer(gemma, tmp_path)
    prompts = [MULTI_TURN[:2]] * 3 + [turns(*SHORT_ROWS[0])[:1]] * 3
    trainer.model.train()
    drawn = trainer.rollout_func(prompts, trainer)
    assert drawn["greedy"] == [True, False, False] * 2 and trainer.model.training
    for first in (0, 3):
        ids = drawn["completion_ids"][first : first + 3]
        assert ids[0] == greedy_ids(gemma, drawn["prompt_ids"][first], 10)
        assert ids[1] != ids[0] != ids[2] != ids[1]
    assert trainer.rollout_func(prompts, trainer)["completion_ids"] == drawn["completion_ids"]  # by seed alone
    trainer._step += 1
    later = trainer.rollout_func(prompts, trainer)["completion_ids"]
    assert [one == two for one, two in zip(later, drawn["completion_ids"], strict=True)] == [True, False, False] * 2
    for ids, finished in zip(drawn["completion_ids"], drawn["finished"], strict=True):
        assert finished == (ids[-1] == tokenizer.eos_token_id) and tokenizer.eos_token_id not in ids[:-1]
    trainer.model.eval()  # an evaluation asks for one answer each where num_generations_eval is 1
    trainer.num_generations_eval = 1
    assert trainer.rollout_func(prompts, trainer)["greedy"] == [True] * 6


def test_a_group_that_begins_on_another_process_has_its_greedy_answer_there(gemma, tmp_path, monkeypatch):
    trainer, _ = grpo_trainer(gemma, tmp_path)
    trainer.model.train()
    monkeypatch.setattr(GRPOConfig, "process_index", 1)
    prompts = [turns(*SHORT_ROWS[0])[:1]] * 2 + [turns(*SHORT_ROWS[1])[:1]] * 2  # answers 4 to 7 of 8, groups of 3
    assert trainer.rollout_func(prompts, trainer)["greedy"] == [False, False, True, False]


def test_without_the_greedy_rollout_all_are_sampled(gemma, tmp_path):
    trainer, _ = grpo_trainer(gemma, tmp_path, greedy_rollout=False)
    assert trainer.rollout_func([MULTI_TURN[:2]] * 3, trainer)["greedy"] == [False] * 3


def test_canary_trl_hands_over_repeated_prompts_and_scores_answers_as_drawn(gemma, tmp_path):
    """`rollout_func` gets each prompt num_generations times in a row (its docstring says otherwise), and what it returns is
    trained on as it is, with its further fields as columns of the rewards. Then draw_rollouts may do as it does."""
    seen = {}

    def rollouts(prompts, trainer):
        seen["prompts"] = prompts
        ids = [[40 + n, 41, 1][: 3 - n % 2] for n in range(len(prompts))]
        return {"prompt_ids": [[2, 50]] * len(prompts), "completion_ids": ids, "logprobs": None, "text": [str(i) for i in ids]}

    def reward(prompts, completions, text, **kwargs):
        seen["text"] = text
        return [float(n) for n in range(len(prompts))]

    config = GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=6, num_generations=3, use_cpu=True, bf16=False, report_to="none"
    )
    data = Dataset.from_list([{"prompt": turns(*pair)[:1]} for pair in SHORT_ROWS])
    with pytest.warns(UserWarning, match="You are using 'rollout_func', which is an experimental feature"):
        trainer = GRPOTrainer(
            model=gemma.model(), args=config, reward_funcs=[reward], train_dataset=data, processing_class=gemma.tokenizer(),
            rollout_func=rollouts,
        )  # fmt: skip
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    asked = [prompt[0]["content"] for prompt in seen["prompts"]]
    assert asked[0] == asked[1] == asked[2] != asked[3] == asked[4] == asked[5]
    assert seen["text"][:2] == ["[40, 41, 1]", "[41, 41]"]
    drawn = sorted(
        (ids[mask.bool()].tolist() for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True))
    )
    assert drawn == sorted([[40 + n, 41, 1][: 3 - n % 2] for n in range(6)])
    assert sorted(batch["advantages"].sign().tolist()) == [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]


# The audit ----------------------------------------------------------------------------------------------------------------


def rollout_batch(tokenizer) -> dict[str, torch.Tensor]:
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    return {
        "prompt_ids": torch.tensor([[pad, 40, 41], [42, 43, 44]]),
        "prompt_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[50, 51, eos, pad], [52, 53, 54, 55]]),
        "completion_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
    }


ASKED = {hash((40, 41)), hash((42, 43, 44))}


def test_the_audit_counts_answers_and_those_that_never_ended(gemma):
    tokenizer = gemma.tokenizer()
    batch = rollout_batch(tokenizer)
    assert audit_rollouts(batch, tokenizer, ASKED) == {"batches": 1, "rollouts": 2, "open": 1}
    batch["completion_mask"][1] = 0
    assert audit_rollouts(batch, tokenizer, ASKED, masks_open=True) == {"batches": 1, "rollouts": 2, "open": 1}
    with pytest.raises(AuditError, match="not exactly the answer"):
        audit_rollouts(batch, tokenizer, ASKED)


@pytest.mark.parametrize(
    ("name", "place", "value", "said"),
    [
        ("prompt_mask", (1, 0), 0, "training shows another prompt than inference will"),
        ("prompt_ids", (0, 1), 49, "training shows another prompt than inference will"),
        ("completion_mask", (0, 2), 0, "the scored part is not exactly the answer and its eos"),
        ("completion_mask", (0, 0), 0, "the scored part is not exactly the answer and its eos"),
        ("completion_mask", (0, 3), 1, "the scored part is not exactly the answer and its eos"),
        ("completion_ids", (1, 1), "eos", "the scored part is not exactly the answer and its eos"),
    ],
)
def test_the_audit_names_a_wrong_batch(gemma, name, place, value, said):
    tokenizer = gemma.tokenizer()
    batch = rollout_batch(tokenizer)
    batch[name][place] = tokenizer.eos_token_id if value == "eos" else value
    with pytest.raises(AuditError, match=said):
        audit_rollouts(batch, tokenizer, ASKED)


def test_another_reference_stops_before_the_first_step(gemma, llama, tmp_path):
    trainer, _ = grpo_trainer(gemma, tmp_path, beta=0.1)
    with torch.no_grad():
        for parameter in trainer.ref_model.parameters():
            parameter.mul_(1.5)
    with pytest.raises(AuditError, match=r"before the first step they differ by \d+\.\d{3} nats a token"):
        trainer.train()


# Whole runs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(sft, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(make_place(tmp_path, sft.base))
    return ("grpo.yaml", "--model_name_or_path", str(sft.folder))


def test_a_run_cut_off_ends_with_the_same_weights_and_tells_what_it_did(place, monkeypatch, capsys):
    common = ("run_grpo", *place, "--merge_adapter", "true", "--gate.prompts", "2", "--gate.stop_margin", "1",
              "--training.load_best_model_at_end", "false")  # fmt: skip
    run_here(monkeypatch, *common, "--training.output_dir", "whole")
    said = capsys.readouterr().out
    assert "audit passed: 2 answers" in said and "step 0: greedy natural" in said
    manifest = json.loads(Path("whole", "manifest.json").read_text(encoding="utf-8"))
    assert manifest["stage"] == "grpo" and manifest["audit"]["rollouts"] == 16 and manifest["rows"] == 4 * len(rows())
    assert manifest["weights"] == {"from": "last", "step": 4} and manifest["evaluations"] == []
    card = Path("whole", "README.md").read_text(encoding="utf-8")
    assert "GRPO(온라인 강화 학습)" in card and "| rewards.repetition | 0.5 |" in card
    assert Path("whole", "model.safetensors").is_file()
    flags = (*common, "--training.output_dir", "cut")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        cut_at_call(patch, "transformers.trainer.Trainer.training_step", 6)  # in step 3
        run_here(patch, *flags)
    run_here(monkeypatch, *flags)
    assert "continuing from cut/checkpoint-2" in capsys.readouterr().out
    assert weights("cut/adapter") == weights("whole/adapter") != weights("cut/checkpoint-2")
    run_here(monkeypatch, *flags)
    assert "nothing to do" in capsys.readouterr().out


def test_a_cut_off_run_draws_when_the_whole_one_does_where_answers_are_trained_on_twice(place, monkeypatch):
    common = (
        "run_grpo",
        *place,
        "--training.num_iterations",
        "2",
        "--training.max_steps",
        "6",
        "--training.eval_strategy",
        "no",
    )
    moments: dict[str, list[tuple[int, int]]] = {"whole": [], "cut": []}
    real = AlignGRPOTrainer._generate_and_score_completions

    def drawn(self, inputs):
        moments[Path(self.args.output_dir).name].append((self.state.global_step, self._step))
        return real(self, inputs)

    monkeypatch.setattr(AlignGRPOTrainer, "_generate_and_score_completions", drawn)
    run_here(monkeypatch, *common, "--training.output_dir", "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        cut_at_call(patch, "transformers.trainer.Trainer.training_step", 11)  # in step 6, past checkpoint-4
        run_here(patch, *common, "--training.output_dir", "cut")
    run_here(monkeypatch, *common, "--training.output_dir", "cut")
    assert moments["whole"] == [(0, 0), (2, 4), (4, 8)] and moments["cut"] == [*moments["whole"], (4, 8)]
    assert weights("cut") == weights("whole")


def test_evaluation_prompts_that_are_trained_on_are_refused(place, monkeypatch):
    write_jsonl("leaked.jsonl", rows()[:1])
    with pytest.raises(AuditError, match="1 of 1 held-out rows are trained on too"):
        run_here(monkeypatch, "run_grpo", *place, "--data.eval_file", "leaked.jsonl", "--training.output_dir", "leaked")


def test_long_prompts_are_left_out_and_counted(gemma):
    tokenizer = gemma.tokenizer()
    lengths = sorted(len(row) for row in prompt_dataset(tokenizer, [parse_prompt(row) for row in rows()], 512)[0]["prompt_ids"])
    kept, long = prompt_dataset(tokenizer, [parse_prompt(row) for row in rows()], lengths[-2])
    assert len(kept) == len(rows()) - 1 and [(row.id, row.tokens) for row in long] == [("r8", lengths[-1])]
    assert kept["reference"][0] == "서울입니다."


# The recipe ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"training.num_generations": 1}, r"training.num_generations: 1 .*2"),
        ({"training.num_generations": 3}, "num_generations: 4 answers at once are no whole groups of 3"),
        ({"training.use_vllm": True}, "training.use_vllm: the rollouts are not drawn by TRL"),
        ({"training.reward_weights": [1.0]}, "training.reward_weights: the weights are those of `rewards`"),
        ({"training.loss_type": "dappo"}, r"training.loss_type: 'dappo' is no loss; did you mean 'dapo'\?"),
        ({"training.beta": -1}, "training.beta"),
        ({"training.num_iterations": 4}, "training.save_steps: a checkpoint every 2 steps .*a multiple of 4"),
        ({"rewards": {"natural": 1.0}}, r"rewards.natural: unknown key; did you mean 'naturalness'\?"),
        ({"rewards": {"naturalness": 0, "reference": 0, "length": 0}}, "rewards: every weight is 0"),
        ({"rewards": {"shortest": 2.0}}, r"rewards.shortest: 2 is not below longest \(1.5\)"),
    ],
)
def test_recipe_errors(flags, said):
    values = {"training": {"output_dir": "o", "per_device_train_batch_size": 4, "num_generations": 2, "save_steps": 2},
              "rewards": {}}  # fmt: skip
    for key, value in flags.items():
        part, _, name = key.partition(".")
        values[part] = {**values[part], name: value} if name else value
    with pytest.raises(UserError, match=said):
        recipe_from(GrpoRecipe, model_name_or_path="m", data={"train_file": "a", "eval_file": "b"}, **values)


def test_a_beta_of_0_is_allowed_and_inputs_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = recipe_from(
        GrpoRecipe, model_name_or_path="sft", data={"train_file": "a", "eval_file": "b"}, rewards={},
        training={"output_dir": "o", "beta": 0.0},
    )  # fmt: skip
    with pytest.raises(UserError, match=r"data.train_file: there is no file a; expected the output of 'align-ko curate'"):
        check_inputs(recipe)
