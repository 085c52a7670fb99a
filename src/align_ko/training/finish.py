"""What every training stage leaves behind: best weights, tokenizer, chat format, greedy decoding, manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import FORMAT_FILE, save_format
from align_ko.errors import UserError
from align_ko.manifest import write_manifest
from align_ko.models.hardware import read_base_of
from align_ko.models.load import greedy_config, load_merged
from align_ko.report.model_card import gate_rounds, write_card
from align_ko.training.faults import check_saved
from align_ko.training.gate import GreedyGate
from align_ko.training.overfitting import evaluations
from align_ko.training.run_record import Run, finish_run

NOT_PUSHED = ("_*", ".*", "checkpoint-*", "runs/*", "greedy_gate/*", "training_args.bin", "training_run.json")
"""Logs name the machine, answers quote prompts, the rest belongs to a run that goes on here."""


def finish_stage(
    trainer: Any,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Any,
    run: Run,
    files: list[str],
    *,
    stage: str,
    base: str,
    dtype: torch.dtype,
    gate: GreedyGate | None = None,
    start: Path | None = None,
    **facts: Any,
) -> Path:
    """All that comes after the last step, in the order that a kill in between cannot harm: weights, manifest, card, push, mark.

    `base`: the model below the adapter; `start`: the folder whose adapter was trained on. UserError where nothing may be saved
    (`weights_taken`) and where nothing was (`check_saved`).
    """
    weights = weights_taken(trainer, gate is not None and gate.failed)
    is_peft = isinstance(trainer.accelerator.unwrap_model(trainer.model), PeftModel)
    folder = save_stage(trainer, tokenizer, recipe.merge_adapter, dtype)
    if trainer.is_world_process_zero():
        check_saved(folder / "adapter" if is_peft and recipe.merge_adapter else folder, start)
        log = trainer.state.log_history
        last = {key: value for entry in log for key, value in entry.items() if key.startswith("train_") or key == "total_flos"}
        manifest = write_manifest(
            folder,
            recipe,
            files,
            stage=stage,
            adapter=is_peft and not recipe.merge_adapter,
            weights=weights,
            metrics=last,
            evaluations=evaluations(log, with_verdict=stage == "sft"),
            greedy=gate_rounds(log),
            format=json.loads((folder / FORMAT_FILE).read_text(encoding="utf-8"))["fingerprint"],
            **facts,
        )
        write_card(folder, manifest, log, base)
        if warning := weights.get("warning"):
            print(f"warning: {warning}")
        if pushed := push_stage(trainer, folder):
            print(f"pushed {pushed}")
        finish_run(run)
        print(f"saved {folder} ({weights['from']} weights, step {weights['step']})")
    trainer.accelerator.wait_for_everyone()
    return folder


def check_push(training: dict[str, Any], base: str, merged: bool) -> None:
    """UserError before the run where its adapter would be pushed with the path of a local folder as its base."""
    if training.get("push_to_hub") and not merged and Path(base).is_dir():
        raise UserError(
            f"an adapter on the hub has to name its base there, and {Path(base).name} is a folder on this machine",
            key="training.push_to_hub",
            expected="a hub id as the model, or merge_adapter: true",
        )


def weights_taken(trainer: Any, gate_failed: bool = False) -> dict[str, Any]:
    """Which weights the model holds after `train()`: `{"from": "best" | "last", "step", "metric", "value", "warning"}`.

    UserError where nothing may be saved: every evaluation fell below the greedy gate, or the best checkpoint is gone.
    """
    args, state = trainer.args, trainer.state
    if gate_failed:
        raise UserError(
            f"every evaluation fell below the greedy gate, so nothing is saved to {args.output_dir}; the start stays the "
            "better model, and what greedy decoding said lies in greedy_gate/",
            key="gate.stop_margin",
            expected="a lower training.learning_rate, fewer steps between evaluations, or a wider margin; then --resume fresh",
        )
    if args.load_best_model_at_end and state.best_metric is not None:
        if state.best_model_checkpoint is None:
            raise UserError(
                f"the best checkpoint of {args.output_dir} is not there any more, and the last is not used in its place",
                key="training.load_best_model_at_end",
                expected="its checkpoint-* folder where the run left it, --resume fresh, or false to take the last",
            )
        step = int(str(state.best_model_checkpoint).rpartition("-")[2])
        return {"from": "best", "step": step, "metric": args.metric_for_best_model, "value": state.best_metric}
    taken: dict[str, Any] = {"from": "last", "step": state.global_step}
    seen = evaluations(state.log_history)
    best = min(seen, key=lambda entry: entry["eval_loss"], default=None)
    if best and best["eval_loss"] < seen[-1]["eval_loss"]:
        taken["warning"] = (
            f"these are the last weights (step {state.global_step}, eval loss {seen[-1]['eval_loss']:.3f}), not the best "
            f"(step {best['step']}, {best['eval_loss']:.3f}); training.load_best_model_at_end keeps the best"
        )
    return taken


def push_stage(trainer: Any, folder: Path) -> str | None:
    """With `training.push_to_hub`, upload what `save_stage` and the card left in `folder`. First process only.

    TRL's own push would save the model over it again, unmerged, and write its own card.
    """
    if not trainer.args.push_to_hub:
        return None
    adapter = folder / "adapter"
    local_base = adapter.is_dir() and Path(read_base_of(str(adapter))).is_dir()
    done = HfApi(token=trainer.args.hub_token).upload_folder(
        repo_id=trainer.hub_model_id,
        folder_path=str(folder),
        commit_message="align_ko: the result of the run",
        revision=trainer.args.hub_revision,
        ignore_patterns=[*NOT_PUSHED, *(["adapter/*"] if local_base else [])],
    )
    return str(done)


def save_stage(trainer: Any, tokenizer: PreTrainedTokenizerBase, merge_adapter: bool, dtype: torch.dtype) -> Path:
    """Save the trainer's model (the best checkpoint, when `load_best_model_at_end`) into its output folder.

    With `merge_adapter`, the folder itself holds the merged model that plain `AutoModelForCausalLM.from_pretrained` loads,
    and `adapter/` the adapter. Every process must call this (ZeRO-3 gathers weights); only the first writes.
    """
    folder = Path(trainer.args.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    is_peft = isinstance(model, PeftModel)
    if is_peft and "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's frozen copy of the start; not part of the result
    target = folder / "adapter" if merge_adapter and is_peft else folder
    trainer.save_model(str(target), _internal_call=True)  # a public call would push at once, before the rest is there
    if trainer.accelerator.is_main_process:
        config = greedy_config(model, tokenizer)
        for place in {target, folder}:
            tokenizer.save_pretrained(place)
            config.save_pretrained(place)
            save_format(place, tokenizer, config.eos_token_id)
        if target != folder:
            _save_merged(target, folder, config, dtype)
            (target / "README.md").unlink(missing_ok=True)  # PEFT's, which names the base by its local path
    trainer.accelerator.wait_for_everyone()
    return folder


def _save_merged(adapter: Path, folder: Path, config: Any, dtype: torch.dtype) -> None:
    merged = load_merged(adapter, dtype)
    merged.generation_config = config
    merged.save_pretrained(folder)
    notice = Path(read_base_of(str(adapter))) / "NOTICE"
    if notice.is_file():
        shutil.copy(notice, folder / "NOTICE")
