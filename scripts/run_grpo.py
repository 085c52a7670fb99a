"""Online RL with TRL's GRPOTrainer: the model's own answers, one of each group greedy, earn what the judge says of them.

    python scripts/run_grpo.py recipes/quickstart/grpo.yaml
    python scripts/run_grpo.py recipes/quickstart/grpo.yaml --plan     (memory, steps and hours, generation included)

The start is an SFT or DPO checkpoint; an adapter folder is trained on, and a frozen copy of it is the reference (`beta`).
Interrupted, the same command continues from the last complete checkpoint; --resume says what happens to an earlier run.
"""

from __future__ import annotations

from align_ko.errors import run_script
from align_ko.manifest import what_is_whole
from align_ko.planning import begin_training
from align_ko.recipe import GrpoRecipe


def main() -> None:
    recipe = begin_training(GrpoRecipe, __doc__)
    if recipe is None:
        return

    from align_ko.records import ConversationRow, read_prompts

    data = recipe.data
    rows, eval_rows = (
        [row for row in read_prompts(file, key) if row.id not in data.leave_out]
        for key, file in (("data.train_file", data.train_file), ("data.eval_file", data.eval_file))
    )

    from align_ko.models.hardware import checked_start

    start, base = checked_start(recipe.model_name_or_path, recipe.model, recipe.training)

    from pathlib import Path

    from trl import GRPOConfig

    from align_ko.manifest import parent_facts
    from align_ko.models.load import best_dtype, load_checkpoint_tokenizer, load_policy
    from align_ko.preferences.rewards import reward_functions
    from align_ko.process import keep_freed_memory
    from align_ko.report.model_card import write_card
    from align_ko.training.faults import check_split, check_token_ids, check_trainable
    from align_ko.training.finish import publish, save_result
    from align_ko.training.gate import attach_gate
    from align_ko.training.grpo import DEFAULTS, AlignGRPOTrainer, prompt_dataset
    from align_ko.training.prepare import check_lengths, training_config
    from align_ko.training.run_record import open_run, run_training

    keep_freed_memory()
    dtype = recipe.model.dtype if recipe.model else "auto"
    functions, weights = reward_functions(recipe.rewards)
    config = training_config(GRPOConfig, {**DEFAULTS, **recipe.training, "reward_weights": weights}, dtype)
    run = open_run(recipe, config, load_checkpoint_tokenizer(start), base)
    if run.done:
        return

    model, tokenizer, new_adapter = load_policy(start, recipe.model)
    asked, held = ([ConversationRow(messages=row.prompt) for row in some] for some in (rows, eval_rows))
    check_split(asked, held)  # here a prompt is all that is trained on
    train, too_long = prompt_dataset(tokenizer, rows, recipe.max_prompt_length)
    held_out, eval_too_long = prompt_dataset(tokenizer, eval_rows, recipe.max_prompt_length)
    check_lengths(recipe, "train_file", train, too_long, config)
    check_lengths(recipe, "eval_file", held_out, eval_too_long, config)
    print(f"{len(train)} training prompts, {sum(text is not None for text in train['reference'])} with a reference")
    check_token_ids(model, tokenizer, train, held_out)
    trainer = AlignGRPOTrainer(
        model=model,
        args=config,
        reward_funcs=functions,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=new_adapter,
        greedy_rollout=recipe.greedy_rollout,
    )
    gate = attach_gate(trainer, recipe.gate, data.eval_file)
    check_trainable(trainer.model)

    run_training(trainer, run)
    saved = save_result(
        trainer,
        tokenizer,
        recipe,
        run.inputs,
        stage="grpo",
        base=base,
        dtype=best_dtype(dtype),
        gate=gate,
        start=Path(recipe.model_name_or_path),
        rows=len(train),
        audit=dict(trainer.audited),
        parent=parent_facts(recipe.model_name_or_path) or recipe.model_name_or_path,
        too_long=too_long,
    )
    publish(trainer, run, saved, write_card)


if __name__ == "__main__":
    run_script(main, what_is_whole)
