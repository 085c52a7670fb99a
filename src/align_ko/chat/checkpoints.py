"""Checkpoints to talk with, and the answers that they write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TYPE_CHECKING, Literal

from align_ko.errors import UserError
from align_ko.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

State = Literal["waiting", "writing", "finished", "cut", "stopped", "failed"]


@dataclass
class Answer:
    """One answer, while it is written and after. `cut`: the limit of tokens ended it; `stopped`: the reader did."""

    by: str
    text: str = ""
    state: State = "waiting"
    problem: str = ""
    """Why it failed."""
    stop: Event = field(default_factory=Event)

    @property
    def is_open(self) -> bool:
        return self.state in ("waiting", "writing")


class Checkpoint:
    """A model in memory under the name that the user gave it. It writes one answer at a time; a second one waits."""

    def __init__(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> None:
        self.name, self.model, self.tokenizer, self.max_new_tokens = name, model, tokenizer, max_new_tokens
        self._turn = Lock()

    def write(self, messages: list[Message], answer: Answer) -> Iterator[str]:
        """Write `answer` to a conversation that ends with the user's turn, greedily, and yield it piece by piece. Whatever
        goes wrong is told in `answer`; only Ctrl-C and the like pass."""
        from align_ko.generation.local import stream_answer

        try:
            with self._turn:
                answer.state = "writing"
                stream = stream_answer(self.model, self.tokenizer, messages, self.max_new_tokens, answer.stop)
                with closing(stream):
                    while True:
                        try:
                            piece = next(stream)
                        except StopIteration as end:
                            answer.state = "finished" if end.value else "stopped" if answer.stop.is_set() else "cut"
                            return
                        answer.text += piece
                        yield piece
        except Exception as error:
            answer.state = "failed"
            answer.problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        finally:
            if answer.is_open:  # left in the middle
                answer.state = "stopped"


class Checkpoints:
    """Loads each checkpoint once."""

    def __init__(self, max_new_tokens: int = 512, trust_remote_code: bool = False) -> None:
        self.max_new_tokens, self.trust_remote_code = max_new_tokens, trust_remote_code
        self._loaded: dict[str, Checkpoint] = {}

    def get(self, name: str, loading: Callable[[], None] = lambda: None) -> Checkpoint:
        """UserError where it cannot be loaded, or its format is not the one that it was trained in."""
        if name not in self._loaded:
            from align_ko.models.load import load_for_inference
            from align_ko.models.source import check_named, model_source

            check_named(name, "--model-path")
            loading()
            source = model_source(name, trust_remote_code=self.trust_remote_code)
            self._loaded[name] = Checkpoint(name, *load_for_inference(source, merge=False), self.max_new_tokens)
        return self._loaded[name]
