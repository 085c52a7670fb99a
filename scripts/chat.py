"""Talk with a checkpoint: greedy, nothing tuned, the answer appears as it is written.

    python scripts/chat.py --model-path outputs/quickstart/distilled
    python scripts/chat.py --model-path outputs/quickstart/distilled --compare outputs/quickstart/sft --web --blind
    echo "김치찌개는 어떻게 끓여요?" | python scripts/chat.py --model-path outputs/quickstart/distilled

/도움 lists the commands; Ctrl-C ends an answer only, Ctrl-D the program. The text is what
`model.generate(**inputs, max_new_tokens=512)` gives. Of two answers the better one is a key or a click away, and becomes a
preference pair in --votes, which `extra_pairs_files` of a preferences recipe reads.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from align_ko.errors import run_script, visible


def main(
    model_path: str,
    compare: str | None = None,
    blind: bool = False,
    system: str = "",
    max_new_tokens: int = 512,
    votes: Path = Path("outputs/chat/preferences.jsonl"),
    conversations: Path = Path("outputs/chat/conversations.jsonl"),
    web: bool = False,
    port: int = 8080,
    trust_remote_code: bool = False,
) -> None:
    """Chat with a checkpoint.

    Args:
        model_path: any checkpoint folder (adapter or full model) or hub id (hub-id@revision for one revision).
        compare: a second one that answers every question too.
        blind: the two in random order, their names hidden until one is chosen.
        system: a system message.
        max_new_tokens: longest answer in tokens.
        votes: the file that preference pairs are appended to.
        conversations: the file that saved conversations are appended to.
        web: a page on this machine instead of the terminal.
        port: of the page.
        trust_remote_code: run the Python code that a model from elsewhere brings.
    """
    from align_ko.models.source import check_named

    names = [model_path, *([compare] if compare and compare != model_path else [])]
    for name, key in zip(names, ("--model-path", "--compare"), strict=False):
        check_named(name, key)
    from align_ko.process import quiet_known_noise

    quiet_known_noise()
    from rich.console import Console
    from rich.markup import escape
    from transformers.utils import logging

    from align_ko.chat.checkpoints import Checkpoints
    from align_ko.chat.conversation import Conversation
    from align_ko.chat.terminal import Terminal, pipe_reader, prompt_reader

    logging.disable_progress_bar()  # it would draw over the line below
    checkpoints, console = Checkpoints(max_new_tokens, trust_remote_code), Console(highlight=False)
    if web:
        from align_ko.chat.page import ChatPage
        from align_ko.chat.serve import check_port, serve

        check_port(port)
        for name in names:
            with console.status(f"{escape(visible(name))} 불러오는 중…"):
                checkpoints.get(name)
        serve(ChatPage(checkpoints, names, system, blind, votes, conversations), port, "align_ko 대화")
        return
    is_interactive = sys.stdin.isatty()
    read = prompt_reader() if is_interactive else pipe_reader
    conversation = Conversation(names, system, blind)
    Terminal(checkpoints, conversation, votes, conversations, console, read, is_interactive).run()


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
