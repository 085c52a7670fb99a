"""The filters, each a plain function `(row, rules) -> Rejection | None`, in the order in which they run.

Form first (cheap, and what follows relies on it), then what is wrong with the Korean, the most telling reason first:
a slangy answer is often plain as well, and "chat_slang" says more about it than "speech_level".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from align_ko.curation.adapters import Rejection
from align_ko.korean import assess
from align_ko.recipe import LengthBounds
from align_ko.records import Assessment, Conversation


@dataclass
class Candidate:
    """A conversation on its way through the filters, with the place it came from."""

    conversation: Conversation
    file: str
    line: int

    @property
    def questions(self) -> list[str]:
        return [m["content"] for m in self.conversation.messages if m["role"] == "user"]

    @property
    def answers(self) -> list[str]:
        return [m["content"] for m in self.conversation.messages if m["role"] == "assistant"]

    @cached_property
    def assessments(self) -> list[Assessment]:
        """One per answer, each seen beside the question before it. Made once, when the first filter asks."""
        # `roles` has run by then, so there is a question for each answer
        return [assess(answer, prompt=question) for question, answer in zip(self.questions, self.answers, strict=True)]


@dataclass(frozen=True)
class Rules:
    """What the filters compare with."""

    lengths: Mapping[str, LengthBounds] = field(default_factory=dict)
    """Group → bounds; a group without any gets the defaults."""
    speech_level: str = "polite"
    """polite; consistent: any level, not mixed; any."""


Filter = Callable[[Candidate, Rules], Rejection | None]


def roles(row: Candidate, rules: Rules) -> Rejection | None:
    """An optional system message, then user and assistant in turn, the last word the assistant's."""
    said = [m["role"] for m in row.conversation.messages]
    turns = said[1:] if said[:1] == ["system"] else said
    if not turns:
        return Rejection("roles", "no user or assistant message")
    expected = ["user", "assistant"] * (len(turns) // 2 + 1)
    for place, (role, wanted) in enumerate(zip(turns, expected, strict=False), 1):
        if role != wanted:
            return Rejection("roles", f"turn {place} is {role!r}, expected {wanted!r}")
    return Rejection("roles", "the last turn is the user's, with no answer") if len(turns) % 2 else None


def empty(row: Candidate, rules: Rules) -> Rejection | None:
    """Every message says something: at least one letter or digit."""
    for place, message in enumerate(row.conversation.messages, 1):
        if not any(map(str.isalnum, message["content"])):
            return Rejection("empty", f"message {place} ({message['role']}) says nothing")
    return None


def length(row: Candidate, rules: Rules) -> Rejection | None:
    """The first question and every answer within the group's bounds. A follow-up question may be as short as "왜?"."""
    bounds = rules.lengths.get(row.conversation.group, LengthBounds())
    texts = [("question", row.questions[0], bounds.min_question, bounds.max_question)]
    texts += [("answer", answer, bounds.min_answer, bounds.max_answer) for answer in row.answers]
    for name, text, low, high in texts:
        if len(text) < low:
            return Rejection("too_short", f"{name} of {len(text)} characters, at least {low} wanted")
        if len(text) > high:
            return Rejection("too_long", f"{name} of {len(text)} characters, at most {high} wanted")
    return None


def speech_level(row: Candidate, rules: Rules) -> Rejection | None:
    """Mixed levels fall unless any will do; a level that is consistent but not polite falls where polite is wanted."""
    if rules.speech_level == "any":
        return None
    codes = ("mixed_register", "wrong_register") if rules.speech_level == "polite" else ("mixed_register",)
    return _first_fault(row, "speech_level", codes)


def _fault_filter(reason: str) -> Filter:
    """The filter that drops a row for the fault of `assess` with this very name."""

    def fault(row: Candidate, rules: Rules) -> Rejection | None:
        return _first_fault(row, reason, (reason,))

    fault.__name__ = reason
    return fault


def _first_fault(row: Candidate, reason: str, codes: Sequence[str]) -> Rejection | None:
    """The first fault with one of `codes` in any answer, shown with the words around it."""
    for number, (answer, assessment) in enumerate(zip(row.answers, row.assessments, strict=True), 1):
        for fault in assessment.faults:
            if fault.code in codes:
                where = f"answer {number}: " if len(row.answers) > 1 else ""
                return Rejection(reason, f"{where}{fault.message} …{answer[fault.start : fault.end][:60]}…")
    return None


STRUCTURAL: tuple[Filter, ...] = (roles, empty)
"""Always run, and first: the others rely on a question before each answer."""

FILTERS: dict[str, Filter] = {
    "length": length,
    "template_leak": _fault_filter("template_leak"),
    "strange_characters": _fault_filter("strange_characters"),
    "not_korean": _fault_filter("not_korean"),
    "chat_slang": _fault_filter("chat_slang"),
    "repetition": _fault_filter("repetition"),
    "unfinished": _fault_filter("unfinished"),
    "speech_level": speech_level,
    "echo": _fault_filter("echo"),
    "filler": _fault_filter("filler"),
    "wrong_particle": _fault_filter("wrong_particle"),
}
"""The standard order. `filters:` in the recipe names the ones to run, in the order to run them."""


def choose_filters(names: Sequence[str] = ()) -> list[Filter]:
    """The structural filters and the named ones; no names means all in their standard order."""
    return [*STRUCTURAL, *(FILTERS[name] for name in names or FILTERS)]


def first_rejection(row: Candidate, rules: Rules, filters: Sequence[Filter]) -> Rejection | None:
    """The first filter's finding, or None for a row that stays. Pure, so that worker processes can share the rows."""
    for check in filters:
        if found := check(row, rules):
            return found
    return None
