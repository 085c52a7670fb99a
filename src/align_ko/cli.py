"""`align-ko COMMAND …`: each command is a script of scripts/, which an installation has beside this file (setup.cfg) and a
checkout in its root; its options follow the command."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from align_ko import __version__
from align_ko.errors import UserError, nearest, run_script
from align_ko.sources import folder_of

COMMANDS = {
    "init": ("init", "a folder with the recipes of a model, to start from"),
    "curate": ("build_sft_data", "raw conversations → train and eval rows, with a report"),
    "sft": ("run_sft", "supervised fine-tuning; with `distill:` in the recipe, distillation"),
    "pairs": ("build_preferences", "preference pairs from the model's own answers"),
    "dpo": ("run_dpo", "DPO on the pairs"),
    "grpo": ("run_grpo", "online RL: the model's own answers earn what the judge says of them"),
    "distil": ("run_sft", "SFT on the model's own answers under a decoding setting (a recipe with `distill:`)"),
    "align": ("align", "rounds of pairs, DPO and a gate, then distillation"),
    "evaluate": ("evaluate", "judge checkpoints under greedy decoding"),
    "read": ("read", "read an evaluation's answers blind: would you sign them?"),
    "launch": ("launch", "accelerate launch for clusters: passes SIGTERM on and exit codes back"),
    "gap": ("decoding_gap", "greedy against a grid of sampling settings"),
    "plan": ("run_sft", "memory, steps and hours of an SFT, DPO or GRPO recipe, before anything is loaded"),
    "index": ("index", "one page for a project: every stage with its outcome, time, memory and report"),
    "diagnose": ("diagnose", "what is wrong with a checkpoint, and which stage mends it"),
    "chat": ("chat", "talk with a checkpoint"),
    "export": ("export", "a plain transformers folder, GGUF files and an Ollama Modelfile"),
    "assess": ("assess", "judge Korean text or a file of answers"),
    "schema": ("schema", "a recipe's keys as a JSON schema, for an editor"),
    "prepare": ("prepare_model", "GGUF, folder or hub id → a plain folder, its vocabulary cut; the quickstart's base"),
}  # fmt: skip

COMPLETION = f"""\
_align_ko() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}"
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "{" ".join((*COMMANDS, "completion"))}" -- "$word"))
    elif [ "${{word#--}}" != "$word" ]; then
        local flags="$(align-ko "${{COMP_WORDS[1]}}" --help 2>/dev/null | grep -oE -- '--[a-z][A-Za-z0-9_.-]+' | sort -u)"
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    fi
}}
complete -o default -F _align_ko align-ko
"""
"""For bash: commands, then files, or a command's flags as its --help has them; zsh reads it through its bashcompinit."""


def usage() -> str:
    """What `align-ko --help` prints."""
    lines = ["usage: align-ko COMMAND RECIPE [OPTIONS]    (align-ko COMMAND --help lists a command's options)", ""]
    lines += [f"  {name:<10}{description}" for name, (_, description) in COMMANDS.items()]
    lines += [f'  {"completion":<10}bash or zsh: what completes commands and flags, for: eval "$(align-ko completion bash)"']
    lines += ["", f"example recipes:  {folder_of('recipes')}"]
    lines += ["several GPUs:     accelerate launch -m align_ko.cli sft RECIPE"]
    return "\n".join(lines)


def completion(shell: str = "bash") -> str:
    """The completion script of a shell. UserError for one that has none."""
    if shell not in ("bash", "zsh"):
        raise UserError(f"no completion for '{shell}'", expected="bash or zsh", nearest=nearest(shell, ("bash", "zsh")))
    return "autoload -U +X bashcompinit && bashcompinit\n" * (shell == "zsh") + COMPLETION


def plan_script(words: list[str]) -> str:
    """`run_grpo` for a recipe with rewards, `run_dpo` for one with a checkpoint at its top, else `run_sft`."""
    from align_ko.recipe.yaml_lines import read_recipe_file

    recipe = next((word for word in words if word.endswith((".yaml", ".yml"))), None)
    keys = read_recipe_file(recipe).values if recipe and Path(recipe).is_file() else {}
    return "run_grpo" if "rewards" in keys else "run_dpo" if "model_name_or_path" in keys else "run_sft"


def run(words: list[str]) -> None:
    """Run the command that `words` begin with. UserError for an unknown one."""
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return
    if words[0] == "--version":
        print(__version__)
        return
    command, rest = words[0], words[1:]
    if command == "completion":
        print(completion(*rest[:1]), end="")
        return
    if command not in COMMANDS:
        expected = f"one of {', '.join(COMMANDS)}, completion"
        raise UserError(f"there is no command '{command}'", expected=expected, nearest=nearest(command, COMMANDS))
    script = COMMANDS[command][0]
    if command == "plan":
        script, rest = plan_script(rest), [*rest, "--plan"]
    path = folder_of("scripts") / f"{script}.py"
    sys.argv = [str(path), *rest]
    runpy.run_path(str(path), run_name="__main__")


def main() -> None:
    run_script(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
