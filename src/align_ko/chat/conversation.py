"""A conversation with one checkpoint or two: its turns, and what is kept of it. It goes on with the answer that the reader
chose, or else with the first."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from align_ko.adapters import Pair, pair_id
from align_ko.chat.checkpoints import Answer
from align_ko.records import Message, content_id
from align_ko.stores import append_row


@dataclass
class Exchange:
    """A question, and its answers in the order in which they are shown."""

    question: str
    answers: list[Answer] = field(default_factory=list)
    chosen: int | None = None
    """The better answer, once the reader has said so."""
    is_settled: bool = False
    """The reader chose, or chose not to."""

    @property
    def is_open(self) -> bool:
        return any(answer.is_open for answer in self.answers)

    @property
    def kept(self) -> Answer | None:
        """The answer that the conversation goes on with; None as long as there is none with text."""
        whole = [answer for answer in self.answers if answer.text.strip() and answer.state in ("finished", "cut")]
        return self.answers[self.chosen] if self.chosen is not None else next(iter(whole), None)

    def can_choose(self, number: int) -> bool:
        """Whether answer `number` of two can be chosen: it is whole, the other one has ended too, and they differ."""
        if self.is_settled or len(self.answers) != 2:
            return False
        mine, other = self.answers[number], self.answers[1 - number]
        texts = {mine.text.strip(), other.text.strip()}
        return mine.state == "finished" and other.state in ("finished", "cut", "stopped") and all(texts) and len(texts) == 2


class Conversation:
    """What is said under one system message ("" for none) with the checkpoints `names`, one or two.

    `is_blind`: two answers come in random order, and nothing says whose they are until the reader has settled the exchange.
    """

    def __init__(self, names: list[str], system: str = "", is_blind: bool = False) -> None:
        self.names, self.system, self.is_blind = names, system, is_blind
        self.exchanges: list[Exchange] = []

    def ask(self, question: str) -> Exchange:
        """A new exchange whose answers are still to be written."""
        order = random.sample(self.names, len(self.names)) if self.is_blind else self.names
        self.exchanges.append(Exchange(question, [Answer(name) for name in order]))
        return self.exchanges[-1]

    def again(self, question: str = "") -> Exchange | None:
        """The last question, or `question` in its place, asked anew; None where nothing was asked."""
        if not self.exchanges:
            return None
        last = self.exchanges.pop()
        return self.ask(question or last.question)

    def label(self, exchange: Exchange, number: int) -> str:
        """Whose answer it is, as far as the reader may know."""
        is_hidden = self.is_blind and len(exchange.answers) > 1 and not exchange.is_settled
        return f"답변 {number + 1}" if is_hidden else exchange.answers[number].by

    def prompt(self, exchange: Exchange) -> list[Message]:
        """What is asked in `exchange`: the turns before it, and its question."""
        before = self.exchanges[: next(n for n, one in enumerate(self.exchanges) if one is exchange)]
        return [*self._turns(before), {"role": "user", "content": exchange.question}]

    def _turns(self, exchanges: list[Exchange]) -> list[Message]:
        """Exchanges without an answer are left out."""
        turns: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for exchange in exchanges:
            if exchange.kept:
                turns.append({"role": "user", "content": exchange.question})
                turns.append({"role": "assistant", "content": exchange.kept.text.strip()})
        return turns

    def save(self, file: Path) -> bool:
        """Append the conversation to a file that curation reads; False where nothing has been answered."""
        messages = self._turns(self.exchanges)
        if not any(exchange.kept for exchange in self.exchanges):
            return False
        append_row(file, {"messages": messages, "source": "chat", "id": content_id(messages)})
        return True

    def vote(self, exchange: Exchange, number: int, file: Path) -> None:
        """Choose answer `number` of two, once; the pair is appended to `file`, which `extra_pairs_files` of a preferences
        recipe and run_dpo.py read. ValueError where it cannot be chosen.

        `{"prompt": [user …], "chosen": [assistant …], "rejected": [assistant …], "chosen_by": "outputs/dpo", …}`
        """
        if not exchange.can_choose(number):
            raise ValueError("this answer cannot be chosen")
        better, worse = exchange.answers[number], exchange.answers[1 - number]
        prompt = self.prompt(exchange)
        chosen, rejected = ([Message(role="assistant", content=answer.text.strip())] for answer in (better, worse))
        row = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "id": pair_id(Pair(prompt, chosen, rejected))}
        by = {"origin": "vote", "chosen_by": better.by, "rejected_by": worse.by}
        # one that never ended is not closed with eos in training
        append_row(file, row | by | {"rejected_finished": worse.state == "finished"})
        exchange.chosen, exchange.is_settled = number, True
