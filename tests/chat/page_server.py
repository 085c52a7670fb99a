"""Serves the pages to the browser tests: python page_server.py chat|read PORT FOLDER. Scripted checkpoints are no models."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from align_ko.chat.checkpoints import Checkpoint, Checkpoints
from align_ko.chat.serve import serve
from align_ko.generation import local

ANSWERS = {
    "out/sft": "서울입니다. 서울입니다. 서울입니다. 서울입니다.",
    "out/dpo": "한국의 수도는 서울입니다. <b>굵게</b> \x1b[2J 끝입니다.",
}


def stream(model, tokenizer, messages, longest, stopped):
    """A word every 20 ms; to 끝없이 it goes on until it is stopped."""
    words, number = ANSWERS[model].split(" "), 0
    endless = "끝없이" in messages[-1]["content"]
    while number < len(words) or endless:
        if stopped.is_set():
            return False
        time.sleep(0.02)
        yield words[number % len(words)] + " "
        number += 1
    return True


class Scripted(Checkpoints):
    def get(self, name, loading=lambda: None):
        return self._loaded.setdefault(name, Checkpoint(name, name, None, 512))


def report(file: Path) -> None:
    """Writes how many threads there are, again and again: whoever closed the browser left none behind."""
    while True:
        names = [thread.name for thread in threading.enumerate()]
        file.write_text(str(sum("_write" in name for name in names)))
        time.sleep(0.05)


def main(which: str, port: str, folder: str) -> None:
    if which == "chat":
        from align_ko.chat.page import ChatPage

        local.stream_answer = stream
        place = Path(folder)
        threading.Thread(target=report, args=(place / "writing.txt",), daemon=True).start()
        files = place / "votes.jsonl", place / "kept.jsonl"
        page = ChatPage(Scripted(), ["out/sft", "out/dpo"], "", place.name == "blind", *files)
        serve(page, int(port), "align_ko 대화")
    else:
        from align_ko.chat.reading import Reading
        from align_ko.chat.reading_page import ReadingPage

        serve(ReadingPage(Reading([Path(folder)], 0, 0)), int(port), "align_ko 읽기")


main(*sys.argv[1:])
