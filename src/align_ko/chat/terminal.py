"""A conversation in a terminal, or from a pipe, a question a line. Nothing in an answer is obeyed by the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from align_ko.chat.checkpoints import Checkpoints
from align_ko.chat.conversation import Conversation, Exchange
from align_ko.errors import UserError, nearest, visible
from align_ko.models.quickstart import cache_folder

Read = Callable[[str], str]  # the next line, after showing its argument; EOFError at the end, KeyboardInterrupt for Ctrl-C
CHOICES = {"1": 0, "ㅂ": 0, "2": 1, "ㅈ": 1}


def prompt_reader() -> Read:
    """prompt_toolkit's line editor: Korean by its width, history kept, a pasted text with line breaks is one message."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.formatted_text import HTML
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    file = cache_folder() / "chat_history"
    file.parent.mkdir(parents=True, exist_ok=True)
    session: PromptSession[str] = PromptSession(history=FileHistory(file), key_bindings=keys)
    once: PromptSession[str] = PromptSession(history=InMemoryHistory())  # a vote is no question to come back to

    def read(label: str) -> str:
        style = HTML("<ansicyan><b>{}</b></ansicyan>  ").format(label)
        return session.prompt(style) if label == "나" else once.prompt(style)

    return read


def pipe_reader(label: str) -> str:
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line


@dataclass
class Terminal:
    """Reads questions and commands, and writes answers as they come."""

    checkpoints: Checkpoints
    conversation: Conversation
    votes: Path
    conversations: Path
    console: Console
    read: Read
    is_interactive: bool = True

    def run(self) -> None:
        """Until /끝, Ctrl-D or the end of the pipe."""
        for name in self.conversation.names:
            self._load(name)
        if self.is_interactive:
            names = " ↔ ".join(self.conversation.names)
            self._say(f"{names} · 기본 디코딩(greedy) · /도움 명령 · Ctrl-C 답변 멈춤 · Ctrl-D 끝")
        while True:
            try:
                line = self.read("나").strip()
            except KeyboardInterrupt:  # the line is dropped, not the program
                if self.is_interactive:
                    continue
                raise
            except EOFError:
                return
            word, _, rest = line.partition(" ")
            if word in ("/끝", "/exit", "/quit"):
                return
            if word in COMMANDS:
                COMMANDS[word][0](self, rest.strip())
            elif word.startswith("/") and (close := nearest(word, COMMANDS)):
                self._say(f"{word}: 그런 명령은 없습니다. {close} 명령을 쓰시려던 것인가요? /도움에 명령이 모두 있습니다.")
            elif line:
                self._answer(self.conversation.ask(line))

    def _answer(self, exchange: Exchange) -> None:
        """Write the answers to `exchange`; of two, ask which is better."""
        prompt, several = self.conversation.prompt(exchange), len(exchange.answers) > 1
        try:
            for number, answer in enumerate(exchange.answers):
                if self.is_interactive or several:
                    label = self.conversation.label(exchange, number) if several else "AI"
                    self.console.print(f"[bold green]{escape(visible(label))}[/bold green]", end="\n" if several else "  ")
                for piece in self.checkpoints.get(answer.by).write(prompt, answer):
                    self.console.out(visible(piece), end="", highlight=False)
                self.console.print()
                if answer.state == "cut":
                    self._say(f"{self.checkpoints.max_new_tokens}토큰에서 끊겼습니다. --max-new-tokens로 늘릴 수 있습니다.")
                if answer.state == "failed":
                    if not self.is_interactive:
                        raise UserError(answer.problem)
                    self._complain(answer.problem)
        except KeyboardInterrupt:
            for answer in exchange.answers:
                answer.state = "stopped" if answer.is_open else answer.state
            if not self.is_interactive:
                raise
            self.console.print()
            self._say("멈췄습니다. 이 답변은 대화에 남지 않습니다. /다시로 한 번 더 물을 수 있습니다.")
        if self.is_interactive and several:
            self._ask_which(exchange)

    def _ask_which(self, exchange: Exchange) -> None:
        possible = [number for number in (0, 1) if exchange.can_choose(number)]
        if possible:
            try:
                said = self.read(f"어느 답변이 낫습니까? {'·'.join(str(n + 1) for n in possible)} (Enter: 고르지 않음)").strip()
            except (KeyboardInterrupt, EOFError):
                said = ""
            if (number := CHOICES.get(said)) in possible and number is not None:
                self.conversation.vote(exchange, number, self.votes)
                self._say(f"{self.votes}에 적었습니다. 대화는 고르신 답변으로 이어집니다.")
        exchange.is_settled = True
        if self.conversation.is_blind:
            names = " · ".join(f"답변 {number + 1} = {answer.by}" for number, answer in enumerate(exchange.answers))
            self._say(names)

    def again(self, question: str) -> None:
        """/다시: the last question once more, or another in its place."""
        if exchange := self.conversation.again(question):
            self._answer(exchange)
        else:
            self._say("아직 물으신 것이 없습니다.")

    def compare(self, name: str) -> None:
        """/비교: a second checkpoint answers too, the last question at once."""
        first = self.conversation.names[0]
        if not name or name == first:
            self.conversation.names = [first]
            self._say("이제 한 체크포인트만 답합니다." if not name else "비교할 다른 체크포인트를 적어 주세요.")
        elif self._load(name):
            self.conversation.names = [first, name]
            if exchange := self.conversation.again():
                self._answer(exchange)

    def checkpoint(self, name: str) -> None:
        """/체크포인트: which one answers; with a name, that one from now on."""
        if name and self._load(name):
            self.conversation.names = [name, *(other for other in self.conversation.names[1:] if other != name)]
        self._say(f"지금 답하는 체크포인트: {' ↔ '.join(self.conversation.names)}")

    def save(self, name: str) -> None:
        """/저장: append the conversation to a file."""
        file = Path(name or self.conversations)
        try:
            said = f"{file}에 적었습니다." if self.conversation.save(file) else "아직 저장할 답변이 없습니다."
        except OSError as error:
            said = f"{file}에 적지 못했습니다: {error.strerror}"
        self._say(said)

    def system(self, text: str) -> None:
        """/시스템: the system message from now on."""
        self.conversation.system = text
        self._say("시스템 메시지를 바꾸었습니다." if text else "시스템 메시지를 없앴습니다.")

    def reset(self, _: str) -> None:
        """/처음: a new conversation."""
        self.conversation.exchanges.clear()
        self._say("대화를 새로 시작합니다.")

    def help(self, _: str) -> None:
        self._say("\n".join(f"{word} {meaning}" for word, (_, meaning) in COMMANDS.items() if meaning))

    def _load(self, name: str) -> bool:
        """Load a checkpoint; a wrong one at the start ends the program, later it is only told."""
        try:
            with self.console.status(f"{escape(visible(name))} 불러오는 중…"):
                self.checkpoints.get(name)
        except (UserError, OSError) as error:
            if not self.conversation.exchanges and name in self.conversation.names:
                raise
            self._complain(str(error))
            return False
        return True

    def _say(self, text: str) -> None:
        self.console.print(f"[dim]{escape(visible(text))}[/dim]")

    def _complain(self, text: str) -> None:
        self.console.print(f"[red]{escape(visible(text))}[/red]")


Command = Callable[[Terminal, str], None]
COMMANDS: dict[str, tuple[Command, str]] = {
    "/다시": (
        Terminal.again,
        "[질문]  마지막 질문을 다시 묻거나, 적은 질문으로 바꿉니다. 조건이 같으면 답도 같습니다.",
    ),
    "/비교": (Terminal.compare, "[체크포인트]  함께 답하게 하고 더 나은 답변을 고릅니다. 이름이 없으면 끝냅니다."),
    "/체크포인트": (Terminal.checkpoint, "[이름]  답하는 체크포인트를 보이거나 바꿉니다."),
    "/저장": (Terminal.save, "[파일]  대화를 파일에 한 줄 덧붙입니다. 큐레이션이 그대로 읽습니다."),
    "/시스템": (Terminal.system, "[글]  시스템 메시지를 정합니다. 글이 없으면 없앱니다."),
    "/처음": (Terminal.reset, "  새 대화를 시작합니다."),
    "/도움": (Terminal.help, "  이 목록을 보입니다. /끝은 나가기, Alt+Enter는 줄 바꿈입니다."),
    "/reset": (Terminal.reset, ""),
    "/help": (Terminal.help, ""),
}
