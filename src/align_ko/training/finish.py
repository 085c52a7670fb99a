"""What every training stage leaves behind: best weights, tokenizer, chat format, greedy decoding, manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Trainer

from align_ko.chat_format import FORMAT_FILE, save_format
from align_ko.commands import command_line
from align_ko.errors import UserError
from align_ko.manifest import Input, result_marks, write_manifest
from align_ko.models.export import save_model
from align_ko.models.load import greedy_config, load_weights
from align_ko.models.source import SOURCE_FILE, ModelSource, base_of, origin_of, write_source
from align_ko.recipe import DpoRecipe, GrpoRecipe, SftRecipe
from align_ko.training.checkpoints import damage
from align_ko.training.faults import check_saved
from align_ko.training.gate import GreedyGate, gate_rounds
from align_ko.training.overfitting import evaluations
from align_ko.training.run_record import Run, finish_run

NOT_PUSHED = ("_*", ".*", "checkpoint-*", "runs/*", "start/*", "greedy_gate/*", "training_args.bin", "training_run.json",
              SOURCE_FILE)  # fmt: skip
"""Logs and the source record name the machine, answers quote prompts, the rest belongs to a run that continues here."""
REJECTED = "rejected"  # in the output folder: weights that the gate refused


class GateRefusal(UserError):
    """The greedy gate refused the weights that would be saved."""


@dataclass(frozen=True)
class Saved:
    folder: Path
    manifest: dict[str, Any]
    log: list[dict[str, float]]
    base: str  # hub id or folder of the model that training here began with


def save_result(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    recipe: SftRecipe | DpoRecipe | GrpoRecipe,
    inputs: Sequence[Input],
    *,
    stage: str,
    base: ModelSource,
    dtype: torch.dtype,
    gate: GreedyGate | None = None,
    start: Path | None = None,
    **facts: object,
) -> Saved | None:
    """After the last step: save the weights, then the manifest. None in all processes but the first. `base`: the model below
    the adapter, if there is one; `start`: the folder whose adapter was trained on. UserError where nothing may be saved
    (`weights_taken`) or nothing was (`check_saved`)."""
    try:
        weights = weights_taken(trainer, gate.passed if gate else ())
    except GateRefusal:
        save_stage(trainer, tokenizer, False, dtype, base, REJECTED)
        raise
    if recipe.model and recipe.model.load_in_4bit:
        weights["trained_on"] = recipe.model.bnb_4bit_quant_type
    is_peft = isinstance(trainer.accelerator.unwrap_model(trainer.model), PeftModel)
    folder = save_stage(trainer, tokenizer, recipe.merge_adapter, dtype, base)
    if not trainer.is_world_process_zero():
        return None
    check_saved(folder / "adapter" if is_peft and recipe.merge_adapter else folder, start)
    log = trainer.state.log_history
    last = {key: value for entry in log for key, value in entry.items() if key.startswith("train_") or key == "total_flos"}
    origin = origin_of(base)
    fingerprint = json.loads((folder / FORMAT_FILE).read_text(encoding="utf-8"))["fingerprint"]
    manifest = write_manifest(
        folder, recipe, inputs, stage=stage, adapter=is_peft and not recipe.merge_adapter, base=asdict(origin), weights=weights,
        metrics=last, evaluations=evaluations(log, with_verdict=stage == "sft"), greedy=gate_rounds(log), format=fingerprint,
        files=result_marks(folder),
        **facts,
    )  # fmt: skip
    return Saved(folder, manifest, log, origin.path)


def publish(trainer: Trainer, run: Run, saved: Saved | None, write_card: Callable[..., object]) -> None:
    """Write the model card, push, then mark the run finished, so that a kill before this repeats it. Every process calls it."""
    if saved is not None:
        write_card(saved.folder, saved.manifest, saved.log, saved.base)
        weights = saved.manifest["weights"]
        if warning := weights.get("warning"):
            print(f"warning: {warning}")
        if pushed := push_stage(trainer, saved.folder):
            print(f"pushed {pushed}")
        finish_run(run)
        print(f"saved {saved.folder} ({weights['from']} weights, step {weights['step']})")
    trainer.accelerator.wait_for_everyone()


def weights_taken(trainer: Trainer, gate_passed: Sequence[bool] = ()) -> dict[str, object]:
    """Which weights the model holds after `train()`: `{"from": "best" | "last", "step", "metric", "value", "warning"}`.
    UserError where the gate refused them (`gate_passed`: each evaluation) or the best checkpoint is gone."""
    args, state = trainer.args, trainer.state
    takes_best = args.load_best_model_at_end and state.best_metric is not None
    if gate_passed and not (any(gate_passed) if takes_best else gate_passed[-1]):
        said, key, expected = (
            "every evaluation fell below the greedy gate",
            "gate.stop_margin",
            "a lower training.learning_rate, fewer steps between evaluations, or a wider margin; then --resume fresh",
        )
        if any(gate_passed):
            said = "the last evaluation fell below the greedy gate, and the last weights are what would be saved"
            key, expected = "training.load_best_model_at_end", "true, for the best checkpoint that passed; then --resume fresh"
        chat = command_line("chat", "--model-path", str(Path(args.output_dir) / REJECTED))
        raise GateRefusal(
            f"{said}, so nothing is saved to {args.output_dir}; the start stays the better model. What was refused can be "
            f"asked by '{chat}'; answers are in greedy_gate/",
            key=key,
            expected=expected,
        )
    if takes_best:
        if state.best_model_checkpoint is None:
            raise UserError(
                f"the best checkpoint of {args.output_dir} is not there any more, and the last is not used in its place",
                key="training.load_best_model_at_end",
                expected="its checkpoint-* folder where the run left it, --resume fresh, or false to take the last",
            )
        if wrong := damage(state.best_model_checkpoint):
            problem = f"{next(iter(wrong.values()))}, so the best weights are lost"
            raise UserError(problem, file=state.best_model_checkpoint, expected="that file put back, or --resume fresh")
        step = int(str(state.best_model_checkpoint).rpartition("-")[2])
        return {"from": "best", "step": step, "metric": args.metric_for_best_model, "value": state.best_metric}
    taken: dict[str, object] = {"from": "last", "step": state.global_step}
    seen = evaluations(state.log_history)
    best = min(seen, key=lambda entry: entry["eval_loss"], default=None)
    if best and best["eval_loss"] < seen[-1]["eval_loss"]:
        taken["warning"] = (
            f"these are the last weights (step {state.global_step}, eval loss {seen[-1]['eval_loss']:.3f}), not the best "
            f"(step {best['step']}, {best['eval_loss']:.3f}); training.load_best_model_at_end keeps the best"
        )
    return taken


def push_stage(trainer: Trainer, folder: Path) -> str | None:
    """Upload `folder` where `push_to_hub` says so, first process only: TRL's push would save the model again, unmerged."""
    if not trainer.args.push_to_hub:
        return None
    adapter = folder / "adapter"
    local_base = adapter.is_dir() and Path(base_of(str(adapter)).path).is_dir()
    done = HfApi().upload_folder(
        repo_id=trainer.hub_model_id,
        folder_path=str(folder),
        commit_message="align_ko: the result of the run",
        revision=trainer.args.hub_revision,
        ignore_patterns=[*NOT_PUSHED, *(["adapter/*"] if local_base else [])],
    )
    return str(done)


def save_stage(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    merge_adapter: bool,
    dtype: torch.dtype,
    base: ModelSource | None = None,
    part: str = "",
) -> Path:
    """Save the trainer's model (the best checkpoint, when `load_best_model_at_end`) into its output folder, or a `part` of it;
    with `merge_adapter` merged, the adapter in `adapter/`. Every process calls this (ZeRO-3 gathers weights), only the first
    writes."""
    folder = Path(trainer.args.output_dir) / part
    model = trainer.accelerator.unwrap_model(trainer.model)
    is_peft = isinstance(model, PeftModel)
    if is_peft and "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's frozen copy of the start; not part of the result
    target = folder / "adapter" if merge_adapter and is_peft else folder
    trainer.save_model(str(target), _internal_call=True)  # a public call would push at once, before the rest is there
    if trainer.accelerator.is_main_process:
        base = base or ModelSource(model.name_or_path)
        config = greedy_config(tokenizer)
        tokenizer.save_pretrained(target)
        config.save_pretrained(target)
        save_format(target, tokenizer, config.eos_token_id)
        write_source(target, base if is_peft else origin_of(base))
        if target != folder:
            merged = load_weights(str(target), dtype)
            merged.generation_config = config
            save_model(folder, merged, tokenizer, base)
            (target / "README.md").unlink(missing_ok=True)  # PEFT's, which names the base by its local path
    trainer.accelerator.wait_for_everyone()
    return folder
