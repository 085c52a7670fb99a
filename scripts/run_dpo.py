"""DPO with TRL's DPOTrainer from an SFT checkpoint; the reference is that checkpoint.

    python scripts/run_dpo.py recipes/quickstart/dpo.yaml
    accelerate launch --config_file accelerate_configs/zero2.yaml scripts/run_dpo.py recipes/solar/dpo.yaml
    python scripts/run_dpo.py recipes/solar/dpo.yaml --plan     (memory, steps and hours, without weights or GPU; docs/plan.md)

An adapter folder as start is trained on, and a frozen copy of it is the reference; the loss before the first step is ln 2.
Interrupted, the same command continues from the last complete checkpoint; --resume says what happens to an earlier run.
"""

from __future__ import annotations

from align_ko.errors import run_script
from align_ko.manifest import what_is_whole
from align_ko.planning import begin_training
from align_ko.recipe import DpoRecipe


def main() -> None:
    recipe = begin_training(DpoRecipe, __doc__)
    if recipe is None:
        return

    from align_ko.records import read_pairs

    # any shape of rows; what cannot be trained on is named before anything heavy is loaded
    rows, eval_rows = (list(read_pairs(file)) for file in (recipe.data.train_file, recipe.data.eval_file))

    from align_ko.models.hardware import checked_start

    start, base = checked_start(recipe.model_name_or_path, recipe.model, recipe.training)

    from pathlib import Path

    from trl import DPOConfig

    from align_ko.manifest import parent_facts
    from align_ko.models.load import best_dtype, load_checkpoint_tokenizer, load_policy
    from align_ko.process import keep_freed_memory
    from align_ko.report.model_card import write_card
    from align_ko.training.audit import audit_pairs
    from align_ko.training.faults import check_split, check_token_ids, check_trainable, warn_of_spelled_tokens
    from align_ko.training.finish import publish, save_result
    from align_ko.training.gate import attach_gate
    from align_ko.training.overfitting import OverfittingWatch
    from align_ko.training.prepare import check_lengths, leave_out, tokenize_pairs, training_config
    from align_ko.training.run_record import open_run, run_training
    from align_ko.training.seams import AlignDPOTrainer

    keep_freed_memory()
    # recipe → TRL config; tokenizer and chat format; what was begun in the output folder before
    dtype = recipe.model.dtype if recipe.model else "auto"
    config = training_config(DPOConfig, recipe.training, dtype)
    run = open_run(recipe, config, load_checkpoint_tokenizer(start), base)
    if run.done:
        return

    # policy and tokenizer: the format of the SFT checkpoint, checked, never another one
    model, tokenizer, new_adapter = load_policy(start, recipe.model)
    rows, eval_rows = (leave_out(every, recipe.data.leave_out) for every in (rows, eval_rows))
    eval_rows = check_split(rows, eval_rows)
    train, too_long = tokenize_pairs(tokenizer, rows, config.max_length)
    held_out, eval_too_long = tokenize_pairs(tokenizer, eval_rows, config.max_length)
    check_lengths(recipe, "train_file", train, too_long, config)
    check_lengths(recipe, "eval_file", held_out, eval_too_long, config)
    warn_of_spelled_tokens(rows, tokenizer)
    print(f"{len(train)} training pairs")
    check_token_ids(model, tokenizer, train, held_out)
    watch = OverfittingWatch(recipe.early_stopping.patience, with_verdict=False)
    trainer = AlignDPOTrainer(
        model=model,
        args=config,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=new_adapter,
    )
    gate = attach_gate(trainer, recipe.gate, recipe.data.eval_file)
    trainer.add_callback(watch)  # after the gate, whose measures it may overrule
    seen = audit_pairs(trainer.get_train_dataloader(), tokenizer, {row["id"]: row for row in rows}, train)
    check_trainable(trainer.model)
    if trainer.is_world_process_zero():
        print(f"audit passed: {seen['pairs']} pairs, {seen['open']} rejected sides left open because they never ended")

    run_training(trainer, run)
    saved = save_result(
        trainer,
        tokenizer,
        recipe,
        run.inputs,
        stage="dpo",
        base=base,
        dtype=best_dtype(dtype),
        gate=gate,
        start=Path(recipe.model_name_or_path),
        rows=len(train),
        audit=seen,
        parent=parent_facts(recipe.model_name_or_path) or recipe.model_name_or_path,
        first_logged_loss=next((entry["loss"] for entry in trainer.state.log_history if "loss" in entry), None),
        too_long=too_long,
    )
    publish(trainer, run, saved, write_card)


if __name__ == "__main__":
    run_script(main, what_is_whole)
