"""Read a sample of an evaluation's answers blind, and say of each whether it makes sense: 2, 1 or 0, one key each.

    python scripts/read.py outputs/quickstart/evaluation
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

from align_ko.errors import run_script, visible
from align_ko.records import last_user_text
from align_ko.stores import Store

if TYPE_CHECKING:
    from align_ko.evaluation.verdicts import ToRead

# also as a Korean keyboard writes b, s and q; Ctrl-D and the end of a pipe end too
BACK, SKIP, QUIT = ("b", "B", "ㅠ"), ("s", "S", "ㄴ"), ("q", "Q", "ㅂ", "ㅃ", "\x04", "")
KEYS = "[b]2[/b] 이대로 내보냄   [b]1[/b] 일부만 맞음   [b]0[/b] 쓸 수 없음   [dim]s 건너뛰기   b 이전   q 그만[/dim]"
ROLES = {"user": "질문", "assistant": "앞선 답변", "system": "지침"}


def show(answer: ToRead, heading: str, verdict: int | None, console: Console) -> None:
    """One question and its answer. Nothing in them is obeyed: no markup, no terminal code."""
    if console.is_terminal:
        console.clear()
    console.rule(heading)
    for message in answer.prompt:
        console.print(f"\n[b cyan]{ROLES.get(message['role'], escape(visible(message['role'])))}[/]")
        console.print(Padding(Text(visible(message["content"])), (0, 2), expand=False))
    console.print("\n[b green]답변[/]")
    console.print(Padding(Text(visible(answer.response) or "(빈 답변)"), (0, 2), expand=False))
    console.print(f"\n{KEYS}" + (f"   [dim](앞서 {verdict})[/dim]" if verdict is not None else ""))


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


def keep(answer: ToRead, verdict: int, stores: dict[Path, Store]) -> None:
    """Write a verdict beside every evaluation that contains the answer."""
    for folder in dict(answer.given_by):
        if stores[folder].rows.get(answer.key, {}).get("verdict") != verdict:
            question = last_user_text(answer.prompt)
            stores[folder].add(answer.key, verdict=verdict, question=question, response=answer.response)


def read(answers: list[ToRead], verdicts: dict[str, int], stores: dict[Path, Store], console: Console) -> bool:
    """Show what has no verdict yet, and keep each verdict at once; False where the reader ended before the last answer."""
    unread, place = [answer for answer in answers if answer.key not in verdicts], 0
    while place < len(unread):
        answer = unread[place]
        show(answer, f"{len(verdicts)} / {len(answers)}", verdicts.get(answer.key), console)
        while (key := pressed()) not in ("0", "1", "2", *BACK, *SKIP, *QUIT):
            console.print("[dim]0, 1, 2, s, b, q 가운데 하나를 누르세요.[/dim]")
        if key in QUIT:
            return False
        if key in ("0", "1", "2"):
            verdicts[answer.key] = int(key)
            keep(answer, int(key), stores)
        place = max(0, place - 1) if key in BACK else place + 1
    return True


def main(
    evaluations: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    prompts: int = 30,
    seed: int = 0,
    models: tuple[str, ...] = (),
) -> None:
    """Read answers blind.

    Args:
        evaluations: Output folders of evaluate.py.
        prompts: How many of the held-out questions; 0 = all.
        seed: Of the questions and of the order.
        models: Names of the models whose answers are read; none: all.
    """
    from align_ko.evaluation.scores import count_verdicts  # here: --help needs no torch
    from align_ko.evaluation.verdicts import READER_FILE, answers_to_read
    from align_ko.report.tables import signed_text, terminal_table

    console = Console(highlight=False)
    answers = answers_to_read(evaluations, prompts, seed, models)
    stores = {folder: Store(folder / READER_FILE).load([answer.key for answer in answers]) for folder in evaluations}
    verdicts = {key: int(row["verdict"]) for store in stores.values() for key, row in store.rows.items()}
    for answer in answers:
        if answer.key in verdicts:  # read for another of these evaluations
            keep(answer, verdicts[answer.key], stores)
    if not read(answers, verdicts, stores, console):
        console.print(f"\n{len(verdicts)} / {len(answers)}. 같은 명령으로 이어서 읽습니다.")
        return
    judged: dict[str, list[list[int]]] = {}
    for answer in answers:
        for folder, model in answer.given_by:
            if answer.key in verdicts:
                name = f"{folder}: {model}" if len(evaluations) > 1 else model
                judged.setdefault(name, []).append([verdicts[answer.key]])
    table = terminal_table("독자 판정", (0, 2, 0, 0))
    for title in ("모델", "읽음", "2", "1", "0", "이대로 내보냄 % (95 %)"):
        table.add_column(title, justify="left" if title == "모델" else "right", overflow="fold")
    for name, given in sorted(judged.items()):
        if share := count_verdicts(given):
            counts = [str(given.count([verdict])) for verdict in (2, 1, 0)]
            table.add_row(escape(visible(name)), str(share["judged"]), *counts, signed_text(share))
    console.print(table)
    console.print("evaluate.py를 다시 실행하면 보고서에도 나옵니다.")


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
