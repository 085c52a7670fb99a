"""The commands of `align-ko`, and how a person starts one from where they are."""

from __future__ import annotations

from pathlib import Path

COMMANDS = {
    "init": ("init", "a folder with the recipes of a model, to start from"),
    "curate": ("build_sft_data", "raw conversations → train and eval rows, with a report"),
    "sft": ("run_sft", "supervised fine-tuning; with `distill:` in the recipe, distillation"),
    "pairs": ("build_preferences", "preference pairs from the model's own answers"),
    "dpo": ("run_dpo", "DPO on the pairs"),
    "grpo": ("run_grpo", "online RL: the model's own answers earn what the judge says of them"),
    "distil": ("run_sft", "SFT on the model's own answers under a decoding setting (a recipe with `distill:`)"),
    "align": ("align", "rounds of pairs, DPO and a gate, then distillation"),
    "merge": ("merge", "seeds, rounds, or SFT and DPO as one model; the gate chooses"),
    "sweep": ("sweep", "values of a training recipe's keys, tried and pruned by the greedy gate"),
    "evaluate": ("evaluate", "judge checkpoints under greedy decoding"),
    "read": ("read", "read an evaluation's answers blind: would you sign them?"),
    "launch": ("launch", "accelerate launch for clusters: passes SIGTERM on and exit codes back"),
    "gap": ("decoding_gap", "greedy against a grid of sampling settings"),
    "plan": ("run_sft", "memory, steps and hours of an SFT, DPO or GRPO recipe, before anything is loaded"),
    "index": ("index", "one page for a project: every stage with its outcome, time, memory and report"),
    "diagnose": ("diagnose", "what is wrong with a checkpoint, and which stage mends it"),
    "chat": ("chat", "talk with a checkpoint"),
    "export": ("export", "a plain transformers folder, GGUF files and an Ollama Modelfile"),
    "verify": ("verify_export", "does an export still answer as its checkpoint? (export --verify)"),
    "assess": ("assess", "judge Korean text or a file of answers"),
    "schema": ("schema", "a recipe's keys as a JSON schema, for an editor"),
    "prepare": ("prepare_model", "GGUF, folder or hub id → a plain folder, its vocabulary cut; the quickstart's base"),
}  # fmt: skip
COMMAND_OF = {script: command for command, (script, _) in reversed(COMMANDS.items())}


def command_line(script: str, *words: str, launch: bool = False) -> str:
    """`python scripts/run_sft.py WORDS` (`launch`: `accelerate launch …`) in a checkout; `align-ko sft WORDS` in a project of
    `align-ko init`, which has no scripts/."""
    path = Path("scripts", f"{script}.py")
    start = f"{'accelerate launch' if launch else 'python'} {path}" if path.is_file() else f"align-ko {COMMAND_OF[script]}"
    return " ".join((start, *words))
