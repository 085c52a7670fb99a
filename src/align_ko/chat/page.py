"""The conversation as a page: answers side by side as they are written, faults underlined, a vote under them."""

from __future__ import annotations

from html import escape
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

from nicegui import app, ui

from align_ko.chat.checkpoints import Answer, Checkpoints
from align_ko.chat.conversation import Conversation, Exchange
from align_ko.errors import visible
from align_ko.korean import assess
from align_ko.records import Fault
from align_ko.report.page import segments

LONGEST_QUESTION = 200_000  # characters; a message of more than a megabyte would end the connection
SHOWN = 2000  # characters of a question
REFRESH = 0.1  # seconds
STATES = {"waiting": "기다리는 중…", "writing": "쓰는 중…", "stopped": "멈췄습니다. 이 답변은 대화에 남지 않습니다."}
# Enter sends, Shift+Enter breaks the line, and an Enter that ends a Korean syllable does neither
ENTER = """(event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    emit(event.target.value);
}"""
_judging = Lock()


class Talk:
    """A tab's conversation, and what writes its answers. It outlives a reload; when its last view is gone, nothing is written
    any more."""

    def __init__(self, checkpoints: Checkpoints, conversation: Conversation, votes: Path, conversations: Path) -> None:
        self.checkpoints, self.conversation, self.votes, self.conversations = checkpoints, conversation, votes, conversations
        self.faults: dict[int, tuple[Fault, ...]] = {}
        self.views: set[str] = set()

    @property
    def last(self) -> Exchange | None:
        return self.conversation.exchanges[-1] if self.conversation.exchanges else None

    @property
    def is_writing(self) -> bool:
        return self.last is not None and self.last.is_open

    def ask(self, question: str) -> None:
        exchange = self.conversation.ask(question)
        for answer in exchange.answers:
            Thread(target=self._write, args=(exchange, answer), daemon=True).start()

    def _write(self, exchange: Exchange, answer: Answer) -> None:
        for _ in self.checkpoints.get(answer.by).write(self.conversation.prompt(exchange), answer):
            pass
        if answer.text:
            with _judging:
                said = assess(answer.text, exchange.question, answer.state != "cut")
            was_stopped = answer.state == "stopped"  # then its end is no fault of its own
            self.faults[id(answer)] = tuple(one for one in said.faults if one.code != "unfinished" or not was_stopped)

    def stop(self) -> None:
        for answer in self.last.answers if self.last else []:
            answer.stop.set()

    def leave(self, view: str) -> None:
        self.views.discard(view)
        if not self.views:
            self.stop()


class Card(NamedTuple):
    """The elements of one answer."""

    box: ui.element
    by: ui.label
    text: ui.html
    faults: ui.label
    state: ui.label
    better: ui.button


class ExchangeView:
    """The elements of one exchange; `update` brings them up to date and says whether more will come."""

    def __init__(self, talk: Talk, exchange: Exchange) -> None:
        self.talk, self.exchange = talk, exchange
        with ui.element("section"):
            with ui.element("div").classes("row").style("justify-content: flex-end"):
                ui.label(visible(clipped(exchange.question))).classes("question")
            with ui.element("div").classes("answers"):
                self.cards = [self._card(number) for number in range(len(exchange.answers))]
            self.neither = ui.button("고르지 않습니다", on_click=lambda: self._vote(None), color=None).classes("side")
            self.neither.style("margin-top: 12px")

    def _card(self, number: int) -> Card:
        with ui.element("article").classes("answer") as box:
            by, text, faults, state = ui.label().classes("by"), ui.html().classes("text"), ui.label(), ui.label()
            better = ui.button("이 답변이 낫습니다", on_click=lambda: self._vote(number), color=None).classes("side")
            better.style("margin-top: 10px")
        return Card(box, by, text, faults.classes("faults"), state.classes("soft"), better)

    def _vote(self, number: int | None) -> None:
        if number is None:
            self.exchange.is_settled = True
        elif self.exchange.can_choose(number):
            self.talk.conversation.vote(self.exchange, number, self.talk.votes)
            ui.notify(f"{visible(str(self.talk.votes))}에 적었습니다.")
        self.update()

    def update(self) -> bool:
        exchange, conversation, is_late = self.exchange, self.talk.conversation, False
        for number, (answer, card) in enumerate(zip(exchange.answers, self.cards, strict=True)):
            found = self.talk.faults.get(id(answer))
            is_late |= answer.is_open or (bool(answer.text) and found is None)
            # where answers are compared blind, the judge says nothing before the reader does
            shown = found or () if exchange.is_settled or not conversation.is_blind or len(self.cards) == 1 else ()
            card.by.set_text(visible(conversation.label(exchange, number)))
            card.text.set_content(marked(answer.text, shown))
            card.faults.set_text("\n".join(dict.fromkeys(fault.message for fault in shown)))
            limit = f"{self.talk.checkpoints.max_new_tokens}토큰에서 끊겼습니다."
            card.state.set_text(limit if answer.state == "cut" else STATES.get(answer.state, visible(answer.problem)))
            card.state.classes(add="problem" if answer.state == "failed" else "")
            card.better.set_visibility(exchange.can_choose(number))
            card.box.classes(add="better" if exchange.chosen == number else "")
        self.neither.set_visibility(any(exchange.can_choose(number) for number in range(len(self.cards))))
        return is_late


def clipped(question: str) -> str:
    """A question as it is shown: of a very long one the beginning and its length."""
    return question if len(question) <= SHOWN else f"{question[:SHOWN]}…\n모두 {len(question):,}자"


def marked(text: str, faults: tuple[Fault, ...]) -> str:
    """HTML of an answer, its faults underlined.

    >>> marked("<b> 사과을", (Fault("wrong_particle", 4, 7, "조사"),))
    '&lt;b&gt; <mark title="조사">사과을</mark>'
    """
    shown = [(escape(visible(part.text)), part) for part in segments(text, faults)]
    return "".join(f'<mark title="{escape(part.tip)}">{html}</mark>' if part.marked else html for html, part in shown)


class ChatPage:
    """Builds the page in every tab."""

    def __init__(
        self, checkpoints: Checkpoints, names: list[str], system: str, is_blind: bool, votes: Path, conversations: Path
    ) -> None:
        self.checkpoints, self.names, self.system, self.is_blind = checkpoints, names, system, is_blind
        self.votes, self.conversations = votes, conversations

    def _new_talk(self) -> Talk:
        conversation = Conversation(list(self.names), self.system, self.is_blind)
        return Talk(self.checkpoints, conversation, self.votes, self.conversations)

    async def __call__(self) -> None:
        client = ui.context.client
        await client.connected()
        tab = app.storage.tab
        if "talk" not in tab:
            tab["talk"] = self._new_talk()
        talk: Talk = tab["talk"]
        talk.views.add(client.id)
        client.on_delete(lambda: tab["talk"].leave(client.id))

        def restart() -> None:
            tab["talk"].leave(client.id)
            tab["talk"] = self._new_talk()
            ui.navigate.reload()

        def save() -> None:
            is_saved = talk.conversation.save(talk.conversations)
            ui.notify(f"{visible(str(talk.conversations))}에 적었습니다." if is_saved else "아직 저장할 답변이 없습니다.")

        with ui.header().classes("top"), ui.element("div").classes("wide row"):
            ui.html("align_ko 대화", tag="h1")
            compared = "두 체크포인트 · 이름은 고른 뒤에 보입니다" if self.is_blind and len(self.names) > 1 else None
            ui.label(compared or " ↔ ".join(map(visible, self.names))).classes("soft grow")
            ui.button("저장", on_click=save, color=None).classes("side")
            ui.button("새 대화", on_click=restart, color=None).classes("side")

        with ui.element("div").classes("wide talk").props('aria-live="polite"') as place:
            empty = ui.label("질문을 적어 보세요. 기본 디코딩(greedy)으로 답합니다.").classes("empty")
            views = [ExchangeView(talk, exchange) for exchange in talk.conversation.exchanges]

        with ui.footer().classes("bottom"), ui.element("div").classes("wide row").style("flex-wrap: nowrap"):
            box = ui.textarea(placeholder="질문 (Enter로 보냅니다)").classes("grow write")
            box.props(f'outlined dense autogrow maxlength={LONGEST_QUESTION} aria-label="질문"')
            box.on("keydown", lambda event: send(event.args), js_handler=ENTER)
            go = ui.button("보내기", on_click=lambda: send(box.value), color=None).classes("main")
            halt = ui.button("멈추기", on_click=lambda: tab["talk"].stop(), color=None).classes("side")

        def send(text: str) -> None:
            if talk.is_writing or not text.strip():
                return
            box.set_value("")
            talk.ask(text.strip())
            with place:
                views.append(ExchangeView(talk, talk.conversation.exchanges[-1]))
            refresh()
            ui.run_javascript("window.scrollTo({top: document.body.scrollHeight, behavior: 'smooth'})")

        def refresh() -> None:
            empty.set_visibility(not views)
            halt.set_visibility(talk.is_writing)
            go.set_visibility(not talk.is_writing)
            timer.active = any([view.update() for view in views])

        timer = ui.timer(REFRESH, refresh)
        refresh()
