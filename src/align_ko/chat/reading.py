"""A blind reading: which answer comes next, what was said of it, and whose answers fared how. Terminal and page show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align_ko.errors import UserError
from align_ko.evaluation.scores import Verdicts, count_verdicts
from align_ko.evaluation.verdicts import READER_FILE, ToRead, answers_to_read
from align_ko.records import last_user_text
from align_ko.stores import Store

VERDICTS = {2: "이대로 내보냄", 1: "일부만 맞음", 0: "쓸 수 없음"}
ROLES = {"user": "질문", "assistant": "앞선 답변", "system": "지침"}
COLUMNS = ("모델", "읽음", "2", "1", "0", "이대로 내보냄 % (95 %)")
"""Of the table at the end: `Line.name`, how many were read, `Line.counts`, `Line.share`."""


@dataclass(frozen=True)
class Line:
    """What was said of one model's answers; `counts` of the verdicts 2, 1 and 0."""

    name: str
    counts: tuple[int, int, int]
    share: Verdicts


class Reading:
    """Answers of evaluations in random order; every verdict is written at once beside each evaluation that has the answer,
    so that the same command goes on there."""

    def __init__(self, evaluations: Sequence[Path], prompts: int, seed: int, models: Sequence[str] = ()) -> None:
        self.evaluations = evaluations
        self.answers = answers_to_read(evaluations, prompts, seed, models)
        keys = [answer.key for answer in self.answers]
        self._stores = {folder: Store(folder / READER_FILE).load(keys) for folder in evaluations}
        stored = [row for store in self._stores.values() for row in store.rows.items()]
        self.verdicts = {key: int(row["verdict"]) for key, row in stored}
        for answer in self.answers:
            if answer.key in self.verdicts:  # read for another of these evaluations
                self._keep(answer, self.verdicts[answer.key])
        self._unread = [answer for answer in self.answers if answer.key not in self.verdicts]
        self._place = 0

    @property
    def current(self) -> ToRead | None:
        """What is to be read now; None after the last answer."""
        return self._unread[self._place] if self._place < len(self._unread) else None

    @property
    def progress(self) -> str:
        return f"{len(self.verdicts)} / {len(self.answers)}"

    def give(self, verdict: int) -> None:
        """The verdict on the current answer, 0, 1 or 2; then the next one."""
        if self.current:
            self.verdicts[self.current.key] = verdict
            self._keep(self.current, verdict)
            self._place += 1

    def skip(self) -> None:
        self._place = min(self._place + 1, len(self._unread))

    def back(self) -> None:
        self._place = max(self._place - 1, 0)

    def _keep(self, answer: ToRead, verdict: int) -> None:
        for folder in dict(answer.given_by):
            if self._stores[folder].rows.get(answer.key, {}).get("verdict") != verdict:
                question = last_user_text(answer.prompt)
                self._stores[folder].add(answer.key, verdict=verdict, question=question, response=answer.response)

    def lines(self) -> list[Line]:
        """By model, and by evaluation where there are several."""
        judged: dict[str, list[list[int]]] = {}
        for answer in self.answers:
            for folder, model in answer.given_by:
                if answer.key in self.verdicts:
                    name = f"{folder}: {model}" if len(self.evaluations) > 1 else model
                    judged.setdefault(name, []).append([self.verdicts[answer.key]])
        made = []
        for name, given in sorted(judged.items()):
            if share := count_verdicts(given):
                made.append(Line(name, (given.count([2]), given.count([1]), given.count([0])), share))
        return made


def is_evaluation(folder: Path) -> bool:
    return (folder / "responses.jsonl").is_file()


def answer_with(
    checkpoints: Sequence[str], asked: Sequence[str], folder: Path, prompts: int, trust_remote_code: bool = False
) -> None:
    """The greedy answers of checkpoints to the first `prompts` of each suite or file (0: all), as an evaluation in `folder`;
    what has been answered before is not answered again. UserError for a checkpoint that cannot be loaded."""
    from align_ko.evaluation.run import evaluate
    from align_ko.models.source import check_named, model_source

    for name in checkpoints:
        check_named(name)
    short = [Path(name).name for name in checkpoints]
    names = checkpoints if len(set(short)) < len(short) else short
    if len(set(names)) < len(names):
        raise UserError("a checkpoint is named twice", expected="different ones")
    sources = {n: model_source(c, trust_remote_code=trust_remote_code) for n, c in zip(names, checkpoints, strict=True)}
    evaluate(sources, tuple(asked), folder, max_prompts=prompts, relevance_model=None)
