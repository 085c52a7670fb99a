"""Supervised fine-tuning with TRL's SFTTrainer, loss on the answers and their eos only.

    python scripts/run_sft.py recipes/quickstart/sft.yaml
    accelerate launch --config_file accelerate_configs/zero2.yaml scripts/run_sft.py recipes/solar/sft.yaml
    python scripts/run_sft.py recipes/quickstart/sft.yaml --training.learning_rate 5e-5 --model.lora_r 16
    python scripts/run_sft.py recipes/solar/sft.yaml --plan     (memory, steps and hours, without weights or GPU; docs/plan.md)

With `distill:` it trains on the model's own distribution under decoding knobs (recipes/quickstart/distill.yaml).
Before the first step real batches are audited: prompt masked, answers and eos trained, one bos, nothing cut.
Interrupted, the same command continues from the last complete checkpoint; --resume says what happens to an earlier run.
"""

from __future__ import annotations

from align_ko.errors import run_script
from align_ko.manifest import what_is_whole
from align_ko.planning import begin_training
from align_ko.recipe import SftRecipe


def main() -> None:
    recipe = begin_training(SftRecipe, __doc__)
    if recipe is None:
        return

    from align_ko.records import read_conversations

    # any shape of rows; what cannot be trained on is named before anything heavy is loaded
    rows, eval_rows = (list(read_conversations(file)) for file in (recipe.data.train_file, recipe.data.eval_file))

    from align_ko.models.hardware import check_hardware, check_packages

    check_hardware(recipe.model.model_name_or_path, recipe.model.load_in_4bit, bool(recipe.training.get("use_cpu")))
    check_packages(recipe.model, recipe.training)

    from pathlib import Path

    from trl import SFTConfig

    from align_ko.manifest import parent_facts
    from align_ko.models.load import (
        best_dtype,
        load_base,
        load_checkpoint_tokenizer,
        load_policy,
        load_tokenizer,
        lora_config,
        merged_start,
        training_source,
    )
    from align_ko.models.source import base_of, is_adapter
    from align_ko.process import keep_freed_memory
    from align_ko.report.model_card import write_card
    from align_ko.training.audit import audit_batches, show_example
    from align_ko.training.distillation import forbid_faults, guided_rows, sft_trainer
    from align_ko.training.faults import (
        check_split,
        check_start,
        check_token_ids,
        check_trainable,
        warn_of_padding,
        warn_of_spelled_tokens,
    )
    from align_ko.training.finish import publish, save_result
    from align_ko.training.gate import attach_gate
    from align_ko.training.overfitting import OverfittingWatch
    from align_ko.training.prepare import check_lengths, conversations_of, leave_out, tokenize_conversations, training_config
    from align_ko.training.run_record import open_run, run_training

    keep_freed_memory()
    # recipe → TRL config; tokenizer and chat format; what was begun in the output folder before
    config = training_config(SFTConfig, recipe.training, recipe.model.dtype)
    start, dtype = training_source(recipe.model), best_dtype(recipe.model.dtype)
    base, from_adapter = base_of(start), is_adapter(start.path)
    load = load_checkpoint_tokenizer if from_adapter else load_tokenizer
    tokenizer = load(start, recipe.data.chat_template)
    run = open_run(recipe, config, tokenizer, base)
    if run.done:
        return

    # data: ids come from chat_format.py, the same function that inference uses
    rows, eval_rows = (leave_out(every, recipe.data.leave_out) for every in (rows, eval_rows))
    eval_rows = check_split(rows, eval_rows)
    train, too_long = tokenize_conversations(tokenizer, rows, config.max_length)
    held_out, eval_too_long = tokenize_conversations(tokenizer, eval_rows, config.max_length)
    check_lengths(recipe, "train_file", train, too_long, config)
    check_lengths(recipe, "eval_file", held_out, eval_too_long, config)
    warn_of_spelled_tokens(rows, tokenizer)
    print(f"{len(train)} training rows, {sum(train['length'])} tokens")

    # model and trainer; an adapter as start is trained on, or merged and a new one trained
    trained_on = from_adapter and recipe.model.use_peft and not (recipe.merge_start or recipe.distill.wanted)
    if trained_on:
        model, _, new_adapter = load_policy(start, recipe.model)
    else:
        base = merged_start(start, Path(config.output_dir), tokenizer, recipe.model.dtype) if from_adapter else base
        model = load_base(recipe.model, tokenizer, base)
        new_adapter = lora_config(recipe.model, base, model)
    check_token_ids(model, tokenizer, train, held_out)
    watch = OverfittingWatch(recipe.early_stopping.patience)
    trainer = sft_trainer(
        recipe.distill,
        forbid_faults(tokenizer, train, rows) if recipe.distill.forbid_faults else {},
        guided_rows(tokenizer, train, rows, recipe.distill.system) if recipe.distill.system else {},
        model=model,
        args=config,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=new_adapter,
    )
    is_first_sft = not (from_adapter or recipe.distill.wanted)
    gate = attach_gate(trainer, recipe.gate, recipe.data.eval_file, is_first_sft)
    if not recipe.distill.wanted:  # whose loss is not the one that evaluation measures
        trainer.add_callback(watch)  # after the gate, whose measures it may overrule

    # audit
    held = conversations_of(train, rows)
    seen = audit_batches(trainer.get_train_dataloader(), tokenizer, held, model.generation_config.eos_token_id, rows=rows)
    check_trainable(trainer.model)
    if from_adapter:
        check_start(trainer.model, start, train, dtype)
    if trainer.is_world_process_zero():
        warn_of_padding(seen)
        print(f"audit passed: {seen['rows']} rows, {seen['supervised']} of {seen['tokens']} tokens trained, one eos an answer")
        show_example(train[0]["input_ids"], train[0]["labels"], tokenizer)

    # train and save
    run_training(trainer, run)
    saved = save_result(
        trainer,
        tokenizer,
        recipe,
        run.inputs,
        stage="distill" if recipe.distill.wanted else "sft",
        base=base,
        dtype=dtype,
        gate=gate,
        start=Path(start.path) if trained_on else None,
        parent=parent_facts(start.path) if from_adapter else None,
        rows=len(train),
        audit=seen,
        too_long=too_long,
    )
    publish(trainer, run, saved, write_card)


if __name__ == "__main__":
    run_script(main, what_is_whole)
