"""What the rows are put together from: the questions and answers of the quickstart's 950 conversations."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "recipes/quickstart/data"
RAW_FILES = ("kullm_v2.json", "koalpaca.jsonl", "kowiki_qa.jsonl", "smol_koreantalk.jsonl")

_POLITE = re.compile(r"(?:요|니다|니까|죠|시오)[.?!~]*$")
_ASKING = re.compile(r"(?:까|[나가은는던]요|니|냐)$|뭐|왜|어떻게|어디|언제|누가|누구|몇|얼마|어떤|어느|무슨")
_REQUEST = re.compile(r"(?:주세요|줘|궁금해요|궁금해|궁금합니다|좀|요령|법)$")
_FACTUAL = re.compile(r"뭐예요|뭔가요|뭐야|무엇|무슨|뜻|차이|왜 |까닭|이유|누가|누구|어디|언제")
_TASK = re.compile(r"주세요|줘|문구|메일|문자|짜 |코드|다음|아래")


@dataclass(frozen=True)
class Unit:
    """One conversation: (question, answer) in turn. `place` is its row in all raw files: near ones are on one subject."""

    place: int
    source: str
    turns: tuple[tuple[str, str], ...]

    @property
    def question(self) -> str:
        return self.turns[0][0]

    @property
    def answer(self) -> str:
        return self.turns[0][1]

    @cached_property
    def polite(self) -> bool:
        """The question is in polite form; one message never joins a polite question and a plain one."""
        return bool(_POLITE.search(self.question.strip()))

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The answer's sentences where leaving out the last ones does no harm, else the whole answer as one."""
        if re.search(r"[\n\"“”'‘’]", self.answer):
            return (self.answer,)
        return tuple(re.split(r"(?<=[.!?])\s+", self.answer))

    @property
    def factual(self) -> bool:
        """A question that an encyclopedia answers: "윤슬이라는 말 뜻 알려 주세요" is not, "밀물과 썰물은 왜 생기나요?" is."""
        return self.source == "kowiki_qa" or bool(_FACTUAL.search(self.question) and not _TASK.search(self.question))

    def beginning(self, limit: int) -> str:
        """As many of the first sentences as fit into `limit` characters, one at least."""
        taken = self.sentences[0]
        for sentence in self.sentences[1:]:
            if len(taken) + 1 + len(sentence) > limit:
                break
            taken += " " + sentence
        return taken


def load_units(raw: Path = DATA / "raw") -> list[Unit]:
    units: list[Unit] = []
    for name in RAW_FILES:
        text = (raw / name).read_text(encoding="utf-8")
        rows = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
        for row in rows:
            if "messages" in row:
                said = [message["content"] for message in row["messages"]]
            else:
                asked = row.get("instruction", row.get("question"))
                said = [f"{asked}\n\n{row['input']}" if row.get("input") else asked, row.get("output", row.get("answer"))]
            units.append(Unit(len(units), name.partition(".")[0], tuple(zip(said[::2], said[1::2], strict=True))))
    return units


def closed(question: str) -> str:
    """With a mark at the end, so that another sentence can follow: "뭐가 맞나요" → "뭐가 맞나요?"."""
    question = question.strip()
    if not re.search(r"[가-힣0-9a-zA-Z]$", question):
        return question
    return question + ("?" if _ASKING.search(question) and not _REQUEST.search(question) else ".")
