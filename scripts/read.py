"""Read answers blind, of an evaluation or of checkpoints, and say of each whether it makes sense: 2, 1 or 0, one key each.

    python scripts/read.py outputs/quickstart/evaluation
    python scripts/read.py outputs/quickstart/sft outputs/quickstart/distilled --web     # asks them first
    python scripts/read.py outputs/quickstart/evaluation outputs/mine/evaluation --prompts 60 --models sft distilled

Answers of all models come in random order, and nothing says whose they are until the last one is read. Every verdict is
written at once to reader.jsonl beside the answers; the same command goes on there. `evaluate.py`, started again, reports them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from align_ko.commands import command_line
from align_ko.errors import run_script, visible

if TYPE_CHECKING:
    from align_ko.chat.reading import Reading
    from align_ko.evaluation.verdicts import ToRead

# also as a Korean keyboard writes b, s and q; Ctrl-D and the end of a pipe end too
BACK, SKIP, QUIT = ("b", "B", "ㅠ"), ("s", "S", "ㄴ"), ("q", "Q", "ㅂ", "ㅃ", "\x04", "")
KEYS = "[dim]s 건너뛰기   b 이전   q 그만[/dim]"


def show(answer: ToRead, heading: str, verdict: int | None, console: Console) -> None:
    """One question and its answer. Nothing in them is obeyed: no markup, no terminal code."""
    from align_ko.chat.reading import ROLES, VERDICTS

    if console.is_terminal:
        console.clear()
    console.rule(heading)
    for message in answer.prompt:
        console.print(f"\n[b cyan]{ROLES.get(message['role'], escape(visible(message['role'])))}[/]")
        console.print(Padding(Text(visible(message["content"])), (0, 2), expand=False))
    console.print("\n[b green]답변[/]")
    console.print(Padding(Text(visible(answer.response) or "(빈 답변)"), (0, 2), expand=False))
    keys = [*(f"[b]{verdict}[/b] {meaning}" for verdict, meaning in VERDICTS.items()), KEYS]
    console.print("\n" + "   ".join(keys) + (f"   [dim](앞서 {verdict})[/dim]" if verdict is not None else ""))


def pressed() -> str:
    """The next key; from a pipe the next character that is no space, "" at its end."""
    if not sys.stdin.isatty():
        while (sign := sys.stdin.read(1)).isspace():
            pass
        return sign
    try:
        import termios
        import tty
    except ImportError:  # Windows: with the enter key
        return input().strip()
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)  # drops what was typed before the answer was shown
        return os.read(sys.stdin.fileno(), 32).decode(errors="replace")  # an arrow key is several bytes, and no verdict
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def read(reading: Reading, console: Console) -> bool:
    """Show what has no verdict yet; False where the reader ended before the last answer."""
    while answer := reading.current:
        show(answer, reading.progress, reading.verdicts.get(answer.key), console)
        while (key := pressed()) not in ("0", "1", "2", *BACK, *SKIP, *QUIT):
            console.print("[dim]0, 1, 2, s, b, q 가운데 하나를 누르세요.[/dim]")
        if key in QUIT:
            return False
        if key in BACK:
            reading.back()
        elif key in SKIP:
            reading.skip()
        else:
            reading.give(int(key))
    return True


def main(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    prompts: int = 30,
    seed: int = 0,
    models: tuple[str, ...] = (),
    asked: tuple[str, ...] = ("core",),
    output_dir: Path = Path("outputs/reading"),
    web: bool = False,
    port: int = 8081,
    trust_remote_code: bool = False,
) -> None:
    """Read answers blind.

    Args:
        folders: Output folders of evaluate.py, or checkpoints, which are asked first.
        prompts: How many of the held-out questions; 0 = all.
        seed: Of the questions and of the order.
        models: Names of the models whose answers are read; none: all.
        asked: Suites or prompt files that checkpoints answer.
        output_dir: Where the answers of checkpoints and the verdicts on them are kept.
        web: A page on this machine instead of the terminal.
        port: Of the page.
        trust_remote_code: Run the Python code that a model from elsewhere brings.
    """
    from align_ko.chat.reading import COLUMNS, Reading, answer_with, is_evaluation  # here: --help needs no torch
    from align_ko.manifest import holds_model
    from align_ko.process import lock_folder, quiet_known_noise
    from align_ko.report.tables import signed_text, terminal_table

    console = Console(highlight=False)
    checkpoints = [str(folder) for folder in folders if holds_model(folder) and not is_evaluation(folder)]
    evaluations = [folder for folder in folders if str(folder) not in checkpoints]
    if checkpoints:
        quiet_known_noise()
        lock_folder(output_dir)
        answer_with(checkpoints, asked, output_dir, prompts, trust_remote_code)
        evaluations.append(output_dir)
    reading = Reading(evaluations, prompts, seed, models)
    if web:
        from align_ko.chat.reading_page import ReadingPage
        from align_ko.chat.serve import serve

        serve(ReadingPage(reading), port, "align_ko 읽기")
        return
    if not read(reading, console):
        console.print(f"\n{reading.progress}. 같은 명령으로 이어서 읽습니다.")
        return
    table = terminal_table("독자 판정", COLUMNS, (0, 2, 0, 0))
    for line in reading.lines():
        name = escape(visible(line.name))
        table.add_row(name, str(line.share["judged"]), *map(str, line.counts), signed_text(line.share))
    console.print(table)
    console.print(f"{command_line('evaluate')} 명령을 다시 실행하면 보고서에도 나옵니다.")


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
