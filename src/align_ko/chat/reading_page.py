"""A blind reading as a page: one answer at a time, a key or a click each, the table at the end."""

from __future__ import annotations

from nicegui import events, ui

from align_ko.chat.reading import COLUMNS, ROLES, VERDICTS, Reading
from align_ko.errors import visible
from align_ko.report.tables import signed_text

# by their place on the keyboard: where Korean is typed, b and s have other names
KEYS = {"KeyB": "back", "KeyS": "skip", "ArrowLeft": "back", "ArrowRight": "skip"}


class ReadingPage:
    """Builds the page in every tab; all show the same reading."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def __call__(self) -> None:
        with ui.header().classes("top"), ui.element("div").classes("wide row"):
            ui.html("align_ko 읽기", tag="h1")
            ui.label("누구의 답변인지는 끝까지 읽은 뒤에 보입니다.").classes("soft grow")
            self._progress()
        with ui.element("div").classes("wide talk").props('aria-live="polite"'):
            self._answer()
        with ui.footer().classes("bottom"), ui.element("div").classes("wide row"):
            self._buttons()
        ui.keyboard(on_key=self._pressed, repeating=False, ignore=[])  # also where a button was clicked last

    def _pressed(self, event: events.KeyEventArguments) -> None:
        key = str(event.key.name)
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt:
            return
        if key in ("0", "1", "2"):
            self._do(int(key))
        elif event.key.code in KEYS:
            self._do(KEYS[event.key.code])

    def _do(self, what: int | str) -> None:
        if isinstance(what, int):
            self.reading.give(what)
        else:
            {"back": self.reading.back, "skip": self.reading.skip}[what]()
        for part in (self._progress, self._answer, self._buttons):
            part.refresh()

    @ui.refreshable_method
    def _progress(self) -> None:
        ui.label(self.reading.progress).classes("soft")

    @ui.refreshable_method
    def _answer(self) -> None:
        answer = self.reading.current
        if not answer:
            self._table()
            return
        for message in answer.prompt:
            role = ROLES.get(message["role"], visible(message["role"]))
            with ui.element("section").props(f'aria-label="{role}"' if message["role"] in ROLES else ""):
                ui.label(role).classes("soft")
                ui.label(visible(message["content"])).classes("question")
        with ui.element("article").classes("answer"):
            ui.label("답변").classes("by")
            ui.label(visible(answer.response) or "(빈 답변)").classes("text")
            if (before := self.reading.verdicts.get(answer.key)) is not None:
                ui.label(f"앞서 {before}점: {VERDICTS[before]}").classes("soft")

    @ui.refreshable_method
    def _buttons(self) -> None:
        if self.reading.current:
            for verdict, meaning in VERDICTS.items():
                click = lambda _, verdict=verdict: self._do(verdict)  # noqa: E731
                ui.button(f"{verdict} {meaning}", on_click=click, color=None).classes("side")
            ui.element("div").classes("grow")
            ui.button("건너뛰기", on_click=lambda: self._do("skip"), color=None).classes("side")
        ui.button("이전", on_click=lambda: self._do("back"), color=None).classes("side")

    def _table(self) -> None:
        if not (lines := self.reading.lines()):
            ui.label("아직 판정한 답변이 없습니다.").classes("empty")
            return
        with ui.element("div").style("overflow-x: auto").props("tabindex=0"), ui.element("table").classes("counts"):
            with ui.element("thead"), ui.element("tr"):
                for title in COLUMNS:
                    ui.html(title, tag="th").props('scope="col"')
            with ui.element("tbody"):
                for line in lines:
                    with ui.element("tr"):
                        with ui.element("th").props('scope="row"'):
                            ui.label(visible(line.name))
                        for cell in (line.share["judged"], *line.counts, signed_text(line.share)):
                            ui.html(str(cell), tag="td")
        ui.label("판정은 모두 저장되었습니다. evaluate.py를 다시 실행하면 보고서에도 나옵니다.").classes("soft")
