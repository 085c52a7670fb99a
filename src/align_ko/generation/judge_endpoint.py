"""A larger model as judge, through any OpenAI-compatible endpoint: what it says of a text is asked once and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from align_ko.errors import UserError, warn
from align_ko.generation.endpoint import Body, Reply, complete_all
from align_ko.generation.requests import progress
from align_ko.recipe import JudgeEndpointArgs
from align_ko.records import Message
from align_ko.stores import Store, row_key

Verdict = TypeVar("Verdict")
CURATED_NOTE = (
    "참고로, 사람이 검수한 모범 답안은 다음과 같습니다. 표현이 달라도 되지만 이와 어긋나는 내용은 틀린 것으로 봅니다."
)
_ROLES = {"user": "사용자", "assistant": "답변", "system": "지침"}


class Asked(NamedTuple):
    """What a judge is sent: the rubric as system message, the text as the user's."""

    rubric: str
    text: str


def text_to_judge(prompt: Sequence[Message], reference: str | None, answers: str) -> str:
    """The conversation, the curated answer where there is one, and the answers."""
    conversation = "\n".join(f"{_ROLES.get(message['role'], message['role'])}: {message['content']}" for message in prompt)
    known = f"\n\n{CURATED_NOTE}\n<모범 답안>\n{reference}\n</모범 답안>" if reference else ""
    return f"<대화>\n{conversation}\n</대화>{known}\n\n{answers}"


class JudgeEndpoint(Generic[Verdict]):
    """Asks at temperature 0 and stores every reply in which `read` finds a verdict (it returns None where there is none).

    A key depends on the address, the model, the rubric, the text and the limit. `section`: of the recipe, for messages.
    """

    def __init__(self, args: JudgeEndpointArgs, file: Path, section: str, read: Callable[[str], Verdict | None]) -> None:
        self.args, self.section, self.read, self._store = args, section, read, Store(file)

    def ask(self, questions: Sequence[Asked]) -> dict[Asked, tuple[Verdict, str]]:
        """The verdict on each question, and the reply that it was read from.

        A reply that was cut (finish `length`) or filtered, or contains no verdict (a refusal), is missing and asked for again
        in the next run; a warning counts them. UserError where no question has a verdict, or the endpoint fails after all
        retries; what was answered until then is stored.
        """
        keys = {asked: row_key(base_url=self.args.base_url, **self._body(asked)) for asked in questions}
        self._store.load(keys.values())
        missing = [asked for asked, key in keys.items() if key not in self._store]
        if missing:
            self._ask(missing, keys)
        verdicts: dict[Asked, tuple[Verdict, str]] = {}
        for asked, key in keys.items():
            reply = str(self._store[key]["reply"]) if key in self._store else ""
            if (verdict := self.read(reply) if reply else None) is not None:
                verdicts[asked] = verdict, reply
        return verdicts

    def _ask(self, missing: Sequence[Asked], keys: dict[Asked, str]) -> None:
        stored = len(keys) - len(missing)
        print(f"{self.args.model} judges: {len(missing)} calls, {stored} answered already", flush=True)
        without: Counter[str] = Counter()
        example = ""

        def save(index: int, reply: Reply) -> None:
            nonlocal example
            if reply.finish in ("length", "content_filter"):
                without[f"by {reply.finish}"] += 1
            elif self.read(reply.text) is None:
                without["with no verdict in the reply"] += 1
                example = example or reply.text[:80]
            else:
                self._store.add(keys[missing[index]], reply=reply.text)
            advance()

        with progress(len(missing), what="judgements") as advance:
            complete_all(self.args, [partial(self._body, asked) for asked in missing], save, self.section)
        if without:
            ends = ", ".join(f"{count} {end}" for end, count in without.items())
            problem = f"of {len(missing)} judgements {without.total()} ended without a verdict ({ends})"
            problem += f", e.g. {example!r}" * bool(example)
            if without.total() == len(keys):
                expected = f"more than {self.args.max_tokens} tokens, or another judge"
                raise UserError(problem, key=f"{self.section}.max_tokens, {self.section}.model", expected=expected)
            warn(f"{problem}; the next run asks again ({self.section}.max_tokens: {self.args.max_tokens})")

    def _body(self, asked: Asked) -> Body:
        messages = [{"role": "system", "content": asked.rubric}, {"role": "user", "content": asked.text}]
        return {"model": self.args.model, "messages": messages, "temperature": 0.0, "max_tokens": self.args.max_tokens}
