"""Greedy answers at every evaluation: what is counted, who stops, which checkpoint is the best."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SHORT_ROWS, turns
from training_place import make_place, run_here

from align_ko.chat_format import answer_ids
from align_ko.errors import UserError
from align_ko.generation.local import generate_answers
from align_ko.generation.requests import Generated
from align_ko.models.load import load_for_inference
from align_ko.recipe import GateArgs, SftRecipe, load_recipe
from align_ko.records import read_jsonl, write_jsonl
from align_ko.training.gate import GreedyGate, _gate_row, attach_gate, gate_measures, gate_prompts, reference_limit


def test_prompts_are_spread_over_the_file_and_lose_their_answer(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"messages": turns(f"질문 {n}", "답")} for n in range(10)])
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": turns("질문", "답")[:1]}, {"prompt": "글자만"}])
    asked = gate_prompts(str(tmp_path / "rows.jsonl"), 4)
    assert [prompt[0]["content"] for prompt in asked] == ["질문 0", "질문 2", "질문 5", "질문 7"]
    assert all(len(prompt) == 1 for prompt in asked)
    assert len(gate_prompts(str(tmp_path / "rows.jsonl"), 32)) == 10
    assert [prompt[-1]["content"] for prompt in gate_prompts(str(tmp_path / "pairs.jsonl"), 5)] == ["질문", "글자만"]
    write_jsonl(tmp_path / "odd.jsonl", [{"text": "없음"}])
    with pytest.raises(UserError, match=r"odd\.jsonl:1: gate\.prompts_file: this row has no prompt"):
        gate_prompts(str(tmp_path / "odd.jsonl"), 1)


def test_measures():
    said = "같은 말을 그대로 합니다."
    rows = [{"prompt": f"질문 {n}", "response": said, "finished": n > 0, "natural": n > 1, "faults": [], "cut": n == 0}
            for n in range(4)]  # fmt: skip
    rows[0]["faults"] = ["repetition", "unfinished"]
    assert gate_measures(rows) == {
        "eval_greedy_natural": 0.5,
        "eval_greedy_outside": 0.0,
        "eval_greedy_stopped": 0.75,
        "eval_greedy_loops": 0.25,
        "eval_greedy_cut": 0.25,
        "eval_greedy_characters": float(len(said)),
        "eval_greedy_collapse": 1.0,
        "eval_greedy_answered": 4.0,
    }


class Scripted(GreedyGate):
    """Natural shares come from a list instead of a model."""

    def __init__(self, shares, margin=0.1):
        super().__init__(GateArgs(prompts=4, stop_margin=margin), [], None)
        self.shares = list(shares)

    def _look(self, state):
        share = self.shares.pop(0)
        state.log_history.append({"step": state.global_step, "eval_greedy_natural": share})
        return {"eval_greedy_natural": share}


def play(gate: Scripted, metric: str | None = "eval_loss"):
    state = SimpleNamespace(log_history=[], global_step=0, is_world_process_zero=True)
    args = SimpleNamespace(metric_for_best_model=metric, greater_is_better=metric == "greedy_natural")
    control = SimpleNamespace(should_training_stop=False)
    gate.on_train_begin(args, state, control)
    seen = []
    while gate.shares:
        metrics = {"eval_loss": 1.0}
        gate.on_evaluate(args, state, control, metrics=metrics)
        seen.append((metrics["eval_loss"], metrics["eval_greedy_natural"], control.should_training_stop))
    return seen, state, args


def test_the_gate_stops_below_the_start_and_such_a_checkpoint_is_never_the_best(capsys):
    seen, state, args = play(Scripted([0.8, 0.7, 0.69]))
    assert seen == [(1.0, 0.7, False), (float("inf"), 0.69, True)]
    assert "natural 69%, 80% before the first step" in capsys.readouterr().out
    assert play(Scripted([0.8, 0.6]), "greedy_natural")[0] == [(1.0, float("-inf"), True)]
    assert "cut at" not in capsys.readouterr().err
    assert play(Scripted([0.8, 0.1], margin=None))[0] == [(1.0, 0.1, False)]
    # resumed from that evaluation's checkpoint, a new gate asks nothing and stops again
    again, control = Scripted([]), SimpleNamespace(should_training_stop=False)
    again.on_train_begin(args, state, control)
    assert control.should_training_stop and again.start == 0.8 and not again.failed and again.passed == [True, False]


def test_the_gate_stops_where_answers_leave_their_questions(capsys):
    gate = Scripted([0.8, 0.8, 0.8])
    gate.args = GateArgs(prompts=4, min_relevant=0.9)
    look, shares = gate._look, iter([0.95, 0.9, 0.89])
    gate._look = lambda state: {**look(state), "eval_greedy_relevant": next(shares)}
    assert play(gate)[0] == [(1.0, 0.8, False), (float("inf"), 0.8, True)]
    assert "89% of the answers belong to their questions, fewer than min_relevant (0.9)" in capsys.readouterr().out


def test_the_model_in_training_says_what_belongs_to_its_question(llama, tmp_path, monkeypatch):
    make_place(tmp_path, llama)
    monkeypatch.chdir(tmp_path)
    asked = []

    def nats(model, tokenizer, questions):
        asked.extend(questions)
        return [0.9, *[0.0] * (len(questions) - 1)]

    monkeypatch.setattr("align_ko.training.gate.relevance", nats)
    with pytest.raises(UserError, match="nothing is saved to sft"):
        run_here(
            monkeypatch, "run_sft", "sft.yaml", "--gate.prompts", "2", "--gate.stop_margin", "1", "--gate.min_relevant", "0.6"
        )
    rows = list(read_jsonl(next(iter(sorted(Path("sft/greedy_gate").iterdir())))))
    assert [row["relevant"] for row in rows] == [True, False] and len(asked) == 2 * len(list(Path("sft/greedy_gate").iterdir()))
    assert [prompt[-1]["content"] for prompt, _ in asked[:2]] == [row["prompt"] for row in rows]


def test_answers_that_the_limit_cut_are_counted_apart_and_told_where_they_decide(capsys):
    row = _gate_row("어디?", Generated("서울은 한강이 흐르는\ufffd\ufffd", False, 8), 8)
    assert row["cut"] and not row["natural"] and "strange_characters" not in row["faults"]
    assert not _gate_row("어디?", Generated("서울입니다.", True, 8), 8)["cut"]
    assert not _gate_row("어디?", Generated("네 네 네 네 네 네 네 네 네 네", False, 8), 8)[
        "cut"
    ]  # a loop is the model's own fault
    gate = Scripted([0.8, 0.5])
    look = gate._look
    gate._look = lambda state: {**look(state), "eval_greedy_cut": 0.3}
    play(gate)
    assert "30% of the answers were cut at 256 tokens, which decides this: gate.max_new_tokens" in capsys.readouterr().err


def test_the_limit_follows_from_the_references_under_this_tokenizer(tiny, tmp_path):
    tokenizer = tiny.tokenizer()
    write_jsonl(tmp_path / "bare.jsonl", [{"prompt": "질문"}])
    write_jsonl(tmp_path / "eval.jsonl", [{"messages": turns(*pair)} for pair in SHORT_ROWS])
    longest = max(len(answer_ids(tokenizer, turns(*pair)[:1], pair[1])) for pair in SHORT_ROWS)
    files = [str(tmp_path / name) for name in ("bare.jsonl", "eval.jsonl")]
    assert reference_limit(tokenizer, files) == longest * 3 // 2
    assert reference_limit(tokenizer, files[:1]) == 256


def test_what_the_gate_refuses_stays_where_it_can_be_asked(llama, tmp_path, monkeypatch):
    make_place(tmp_path, llama)
    monkeypatch.chdir(tmp_path)
    shares = iter([0.9, 0.1, 0.1])
    measured = gate_measures
    monkeypatch.setattr(
        "align_ko.training.gate.gate_measures", lambda rows: {**measured(rows), "eval_greedy_natural": next(shares)}
    )
    with pytest.raises(UserError, match=r"nothing is saved to sft; .*align-ko chat --model-path sft/rejected'"):
        run_here(monkeypatch, "run_sft", "sft.yaml", "--gate.prompts", "2")
    assert not Path("sft/adapter_config.json").exists()
    model, tokenizer = load_for_inference("sft/rejected", "float32")
    assert len(generate_answers(model, tokenizer, ["한국의 수도는?"], max_new_tokens=4)) == 1


def test_a_run_that_only_fell_is_a_failure():
    gate = Scripted([0.8, 0.5])
    play(gate)
    assert gate.failed
    fresh = Scripted([0.8])
    play(fresh)
    assert not fresh.failed  # no evaluation, no verdict


def test_fsdp_is_refused(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "질문"}])
    with pytest.raises(UserError, match="cannot answer under FSDP"):
        attach_gate(SimpleNamespace(is_fsdp_enabled=True), GateArgs(prompts=1), str(tmp_path / "rows.jsonl"))
    assert attach_gate(SimpleNamespace(is_fsdp_enabled=True), GateArgs(), "") is None


def test_a_round_takes_no_longer_than_its_time_and_leaves_dice_and_mode_alone(llama, tmp_path):
    from accelerate import Accelerator

    model, tokenizer, logged = llama.model().train(), llama.tokenizer(), []
    args = SimpleNamespace(process_index=0, world_size=1, output_dir=str(tmp_path))
    trainer = SimpleNamespace(
        args=args,
        accelerator=Accelerator(cpu=True),
        model=model,
        model_wrapped=model,
        processing_class=tokenizer,
        log=logged.append,
    )
    prompts = [turns(*pair)[:1] for pair in SHORT_ROWS[:6]]
    ticks = iter(range(0, 1000, 10))  # every look at the clock is ten seconds later
    gate = GreedyGate(
        GateArgs(prompts=6, batch_size=2, max_new_tokens=6, max_seconds=15), prompts, trainer, lambda: next(ticks)
    )
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = gate._look(SimpleNamespace(is_world_process_zero=True, global_step=7))
    assert torch.equal(before, torch.get_rng_state()) and model.training
    assert found["eval_greedy_answered"] == 4 and logged == [found]  # 10 s after the first batch, 20 after the second
    rows = list(read_jsonl(tmp_path / "greedy_gate" / "step-000007.jsonl"))
    plain = generate_answers(model.eval(), tokenizer, prompts[:4], max_new_tokens=6)
    assert [row["response"] for row in rows] == [answer.text for answer in plain]
    assert [row["prompt"] for row in rows] == [question for question, _ in SHORT_ROWS[:4]]


@pytest.mark.parametrize(("first", "share", "warned"), [(True, 0.4, True), (True, 0.39, False), (False, 0.9, False)])
def test_sft_of_a_model_that_is_tuned_already_is_warned_of(monkeypatch, capsys, first, share, warned):
    gate = GreedyGate(GateArgs(prompts=1), [], SimpleNamespace())
    gate.is_first_sft = first
    monkeypatch.setattr(gate, "_look", lambda state: {"eval_greedy_natural": share})
    state = SimpleNamespace(log_history=[])
    gate.on_train_begin(None, state, SimpleNamespace(should_training_stop=False))
    assert ("it is tuned already" in capsys.readouterr().err) is warned
    state.log_history = [{"eval_greedy_natural": share}]
    gate.on_train_begin(None, state, SimpleNamespace(should_training_stop=False))  # resumed: it was said before
    assert "tuned" not in capsys.readouterr().err


def test_a_run_chooses_its_best_by_the_gate(llama, tmp_path, monkeypatch):
    """The adapter learns eight rows by heart, so that the share rises from 0 and the best is not the first."""
    make_place(tmp_path, llama)
    monkeypatch.chdir(tmp_path)
    flags = ["--gate.prompts", "4", "--gate.max_new_tokens", "12", "--model.lora_dropout", "0", "--training.eval_steps", "9",
             "--training.save_steps", "9", "--training.metric_for_best_model", "greedy_natural"]  # fmt: skip
    run_here(monkeypatch, "run_sft", "sft.yaml", *flags)
    manifest = json.loads(Path("sft/manifest.json").read_text())
    rounds = manifest["greedy"]
    assert [entry["step"] for entry in rounds] == [0, 9, 18] and all(entry["answered"] == 4 for entry in rounds)
    best = max(rounds[1:], key=lambda entry: (entry["natural"], -entry["step"]))  # a tie keeps the earlier
    assert manifest["weights"] == {"from": "best", "step": best["step"], "metric": "greedy_natural", "value": best["natural"]}
    assert [entry["eval_greedy_natural"] for entry in manifest["evaluations"]] == [entry["natural"] for entry in rounds[1:]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--gate.prompts", "0", "--training.metric_for_best_model", "greedy_natural"), "greedy_natural needs the greedy gate"),
        (("--gate.prompts", "4", "--training.eval_strategy", "no", "--training.load_best_model_at_end", "false"),
         "the gate looks at every evaluation, and there is none"),
        (("--gate.prompts", "4", "--training.metric_for_best_model", "greedy_loops"),
         "greedy_loops cannot choose; expected eval_loss, greedy_natural or greedy_stopped"),
        (("--gate.prompts", "4", "--training.metric_for_best_model", "eval_greedy_natural", "--training.greater_is_better",
          "false"), "false would keep the checkpoint with the worst greedy_natural"),
        (("--gate.prompts", "-1",), "gate.prompts: -1 cannot work"),
    ],
)  # fmt: skip
def test_gate_keys_that_do_not_go_together(flags, said):
    recipe = str(Path(__file__).parents[2] / "recipes/solar/sft.yaml")
    with pytest.raises(UserError, match=said):
        load_recipe(SftRecipe, [recipe, "--training.greater_is_better", "null", *flags])
