"""`align-ko COMMAND …`: each command is a script of scripts/, which an installation has beside this file (setup.cfg) and a
checkout in its root; its options follow the command."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from align_ko import __version__
from align_ko.commands import COMMANDS
from align_ko.errors import UserError, nearest, run_script
from align_ko.sources import folder_of

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
