"""Talk with a checkpoint: greedy, nothing tuned, the answer appears as it is written.

    python scripts/chat.py --model-path outputs/quickstart/distilled
    echo "김치찌개는 어떻게 끓여요?" | python scripts/chat.py --model-path outputs/quickstart/distilled

/처음 or /reset starts over, /끝 or /exit (or Ctrl-D) ends, Ctrl-C ends an answer only. The text is
what `model.generate(**inputs, max_new_tokens=512)` gives.
"""

from __future__ import annotations

import sys

import tyro

from align_ko.errors import run_script, visible


def main(model_path: str, max_new_tokens: int = 512, system: str | None = None, trust_remote_code: bool = False) -> None:
    """Chat with a checkpoint.

    Args:
        model_path: any checkpoint folder (adapter or full model) or hub id (hub-id@revision for one revision).
        max_new_tokens: longest answer in tokens.
        system: an optional system message.
        trust_remote_code: run the Python code that a model from elsewhere brings.
    """
    from align_ko.models.source import check_named

    check_named(model_path, "--model-path")
    from align_ko.process import quiet_known_noise

    quiet_known_noise()
    from rich.console import Console
    from rich.markup import escape
    from transformers.utils import logging

    from align_ko.generation.local import stream_answer
    from align_ko.models.load import load_for_inference
    from align_ko.models.source import model_source
    from align_ko.records import Message

    logging.disable_progress_bar()  # it would draw over the line below
    console = Console(highlight=False)
    with console.status(f"{escape(model_path)} 불러오는 중…"):
        model, tokenizer = load_for_inference(model_source(model_path, trust_remote_code=trust_remote_code), merge=False)
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    messages = list(start)
    interactive = sys.stdin.isatty()
    if interactive:
        console.print(f"[dim]{escape(model_path)} · 기본 디코딩(greedy) · /처음 새 대화 · /끝 나가기[/dim]")
    while True:
        try:
            question = console.input("[bold cyan]나[/bold cyan]  ").strip() if interactive else _next_line()
        except EOFError:
            break
        if question in ("/끝", "/exit", "/quit"):
            break
        if question in ("/처음", "/reset"):
            messages = list(start)
            continue
        if not question:
            continue
        messages.append({"role": "user", "content": question})
        if interactive:
            console.print("[bold green]AI[/bold green] ", end=" ")
        answer = ""
        try:
            for piece in stream_answer(model, tokenizer, messages, max_new_tokens):
                answer += piece
                console.out(visible(piece), end="", highlight=False)
        except KeyboardInterrupt:
            if not interactive:
                raise
            messages.pop()
            console.print("\n[dim]멈췄습니다. 이 질문과 답은 대화에 남지 않습니다.[/dim]")
            continue
        console.print()
        messages.append({"role": "assistant", "content": answer})


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip()


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
