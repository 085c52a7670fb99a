"""The filters, each a plain function `(row, rules) -> Rejection | None`, in the order in which they run.

|    | name               | reason             | drops, for example                                                      |
|----|--------------------|--------------------|-------------------------------------------------------------------------|
|    | roles              | roles              | two user turns in a row, no answer to the last question                 |
|    | empty              | empty              | "…"                                                                     |
|  1 | length             | too_short, too_long| "네, 맞아요." where 50 characters are wanted                            |
|  2 | personal_data      | personal_data      | 제 번호는 010-1234-5678이에요. (mode `drop` only)                       |
|  3 | profanity          | profanity          | 이런 씨발, 또 틀렸네요.                                                 |
|  4 | wrong_refusal      | wrong_refusal      | 김치찌개 끓이는 법은? 죄송하지만 그 질문에는 답변드릴 수 없습니다.      |
|  5 | template_leak      | template_leak      | 서울이에요.\\n\\n### User:\\n고마워요.                                   |
|  6 | strange_characters | strange_characters | 가장 重要한 것은 온도예요.                                              |
|  7 | not_korean         | not_korean         | I'm sorry, but I can't help with that.                                  |
|  8 | chat_slang         | chat_slang         | 국물이 시원해져요 ㅋㅋㅋㅋ                                              |
|  9 | repetition         | repetition         | 한 시간 불리세요. 한 시간 불리세요. 한 시간 불리세요.                   |
| 10 | unfinished         | unfinished         | 찬물에 한 시간 불리                                                     |
| 11 | speech_level       | speech_level       | 목살을 넣어라. 국물이 시원해집니다.                                     |
| 12 | echo               | echo               | 수도가 어디예요? 수도가 어디예요?                                       |
| 13 | filler             | filler             | 다양한 주제에 대해 다양한 정보를 다양하게 제공합니다.                   |
| 14 | off_topic          | off_topic          | 감자조림이 자꾸 부서져요. 고려청자의 푸른빛은 철분에서 나옵니다. …      |
| 15 | wrong_particle     | wrong_particle     | 책를 읽고 사과을 먹었어요. (more of them than the repair may put right)  |

Form first (cheap, and what follows relies on it), then what words alone tell, then what `assess` finds (by far the dearest),
the most telling reason first: a slangy answer is often plain as well, and "chat_slang" says more about it than
"speech_level". `off_topic` is late because an answer in another language takes nothing up either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, pairwise

from align_ko import reasons
from align_ko.adapters import Rejection
from align_ko.curation.off_topic import is_off_topic
from align_ko.curation.personal_data import find
from align_ko.curation.profanity import find_profanity
from align_ko.curation.refusals import wrong_refusal_in
from align_ko.korean import assess_each, control_mark
from align_ko.recipe import DataRecipe, LengthBounds
from align_ko.records import Assessment, Conversation
from align_ko.turns import is_trained


@dataclass
class Candidate:
    """A conversation on its way through the filters."""

    conversation: Conversation
    together: Sequence[Candidate] = field(default=(), repr=False, compare=False)
    """Rows that are assessed in one go, this one among them: assessing many at once is faster."""

    @cached_property
    def questions(self) -> list[str]:
        """What each of `answers` answers."""
        return [before["content"] for before, turn in pairwise(self.conversation.messages) if is_trained(turn)]

    @cached_property
    def answers(self) -> list[str]:
        return [turn["content"] for _, turn in pairwise(self.conversation.messages) if is_trained(turn)]

    @cached_property
    def assessments(self) -> list[Assessment]:
        """One per answer, each beside the question before it. Made when the first filter asks, for all of `together`."""
        rows = self.together or [self]  # `roles` has run by then, so there is a question for each answer
        texts = [each for row in rows for each in row.answers], [each for row in rows for each in row.questions]
        verdicts = iter(assess_each(*texts))
        for row in rows:
            row.__dict__["assessments"] = list(islice(verdicts, len(row.answers)))
        own: list[Assessment] = self.__dict__["assessments"]
        return own

    @property
    def assessed(self) -> list[Assessment]:
        """The same if a filter asked for them, else none."""
        found: list[Assessment] = self.__dict__.get("assessments", [])
        return found


@dataclass(frozen=True)
class Rules:
    """What the filters compare with."""

    lengths: Mapping[str, LengthBounds] = field(default_factory=dict)
    """Group → bounds; a group without any gets the defaults."""
    speech_level: str = "polite"
    """polite; consistent: any level, not mixed; any."""
    personal_data: str = DataRecipe.personal_data
    """drop: a row with any falls; mask: the repair of that name has replaced it; keep."""
    profanity_file: str = DataRecipe.profanity_file
    """A list of words, one a line; "" is the one that ships."""
    wrong_particles: int = 0
    """Most of them that an answer may have; more than 0 where the repair `particles` puts them right afterwards."""


Filter = Callable[[Candidate, Rules], Rejection | None]
BY_FAULT = "strange_characters not_korean chat_slang repetition unfinished echo filler".split()


def roles(row: Candidate, rules: Rules) -> Rejection | None:
    """An optional system message, then user and assistant in turn, the last word the assistant's."""
    said = [m["role"] for m in row.conversation.messages]
    turns = said[1:] if said[:1] == ["system"] else said
    if not turns:
        return Rejection("roles", reasons.NO_TURN)
    expected = ["user", "assistant"] * (len(turns) // 2 + 1)
    for place, (role, wanted) in enumerate(zip(turns, expected, strict=False), 1):
        if role != wanted:
            return Rejection("roles", reasons.WRONG_TURN.format(place, role, wanted))
    return Rejection("roles", reasons.NO_ANSWER) if len(turns) % 2 else None


def empty(row: Candidate, rules: Rules) -> Rejection | None:
    """Every message says something: at least one letter or digit."""
    for place, message in enumerate(row.conversation.messages, 1):
        if not any(map(str.isalnum, message["content"])):
            return Rejection("empty", reasons.SAYS_NOTHING.format(place, message["role"]))
    return None


def length(row: Candidate, rules: Rules) -> Rejection | None:
    """The first question and every answer within the group's bounds. A follow-up question may be as short as "왜?"."""
    bounds = rules.lengths.get(row.conversation.group, LengthBounds())
    texts = [("question", row.questions[0], bounds.min_question, bounds.max_question)]
    texts += [("answer", answer, bounds.min_answer, bounds.max_answer) for answer in row.answers]
    for name, text, low, high in texts:
        if not low <= (size := len(text)) <= high:
            if size < low:
                return Rejection("too_short", reasons.TOO_SHORT.format(name, size, low))
            return Rejection("too_long", reasons.TOO_LONG.format(name, size, high))
    return None


def speech_level(row: Candidate, rules: Rules) -> Rejection | None:
    """Mixed levels unless any will do; a level that is consistent but not polite where polite is wanted."""
    codes = {"any": (), "consistent": ("mixed_register",)}.get(rules.speech_level, ("mixed_register", "wrong_register"))
    return _first_fault(row, "speech_level", codes) if codes else None


def personal_data(row: Candidate, rules: Rules) -> Rejection | None:
    """Where rows with personal data are to be dropped: in any message, questions too. The detail does not repeat it."""
    if rules.personal_data != "drop":
        return None
    for place, message in enumerate(row.conversation.messages, 1):
        if found := find(message["content"]):
            kinds = ", ".join(dict.fromkeys(piece.kind for piece in found))
            return Rejection("personal_data", reasons.PERSONAL_DATA.format(place, message["role"], kinds))
    return None


def profanity(row: Candidate, rules: Rules) -> Rejection | None:
    """A swear word of the list in an answer. In a question it may stand: a calm answer to it is worth learning."""
    for question, answer in zip(row.questions, row.answers, strict=True):
        if word := find_profanity(answer, question, rules.profanity_file):
            return Rejection("profanity", reasons.SWEARS.format(word))
    return None


def wrong_refusal(row: Candidate, rules: Rules) -> Rejection | None:
    """An answer that says it cannot, though the question is harmless and anybody could; see refusals.py."""
    for number, answer in enumerate(row.answers, 1):
        asked = "\n".join(row.questions[:number])  # 그럼 부산은요? after a question about today's weather
        if refusing := wrong_refusal_in(asked, answer):
            return Rejection("wrong_refusal", reasons.REFUSES.format(refusing[:60]))
    return None


def template_leak(row: Candidate, rules: Rules) -> Rejection | None:
    """What separates turns, in an answer; in any other message only what spells a token: a question may have headings."""
    for place, message in enumerate(row.conversation.messages, 1):
        if message["role"] != "assistant" and (mark := control_mark(message["content"])):
            return Rejection("template_leak", reasons.LEAKS.format(place, message["role"], mark))
    return _first_fault(row, "template_leak", ("template_leak",))


def off_topic(row: Candidate, rules: Rules) -> Rejection | None:
    """An answer that takes up nothing of the question nor of what was said before; see off_topic.py."""
    earlier = " ".join(m["content"] for m in row.conversation.messages if m["role"] == "system")
    for number, (question, answer) in enumerate(zip(row.questions, row.answers, strict=True), 1):
        if is_off_topic(question, answer, earlier):
            return Rejection("off_topic", reasons.SHARES_NO_WORD.format(number, answer[:60]))
        earlier = f"{earlier} {question} {answer}"
    return None


def wrong_particle(row: Candidate, rules: Rules) -> Rejection | None:
    """More wrong particles in an answer than the repair may put right; with as many it is no slip but bad Korean."""
    counts = (sum(fault.code == "wrong_particle" for fault in each.faults) for each in row.assessments)
    many = max(counts, default=0) > rules.wrong_particles
    return _first_fault(row, "wrong_particle", ("wrong_particle",)) if many else None


_AKIN = {"not_korean": ("code_switching",), "unfinished": ("no_answer",)}
"""Faults that the filter of a like one drops as well."""


def _fault_filter(reason: str) -> Filter:
    """The filter that drops a row for the fault of `assess` with this very name, or for one akin to it."""

    def fault(row: Candidate, rules: Rules) -> Rejection | None:
        return _first_fault(row, reason, (reason, *_AKIN.get(reason, ())))

    fault.__name__ = reason
    return fault


def _first_fault(row: Candidate, reason: str, codes: Sequence[str]) -> Rejection | None:
    """The first fault with one of `codes` in any answer, shown with the words around it."""
    for number, (answer, assessment) in enumerate(zip(row.answers, row.assessments, strict=True), 1):
        for fault in assessment.faults:
            if fault.code in codes:
                said = f"{fault.message} …{answer[fault.start : fault.end][:60]}…"
                return Rejection(reason, reasons.OF_ANSWER.format(number, said) if len(row.answers) > 1 else said)
    return None


STRUCTURAL: tuple[Filter, ...] = (roles, empty)
"""Always run, and first: the others rely on a question before each answer."""

FILTERS: dict[str, Filter] = {
    "length": length,
    "personal_data": personal_data,
    "profanity": profanity,
    "wrong_refusal": wrong_refusal,
    "template_leak": template_leak,
    **{name: _fault_filter(name) for name in BY_FAULT[:5]},
    "speech_level": speech_level,
    **{name: _fault_filter(name) for name in BY_FAULT[5:]},
    "off_topic": off_topic,
    "wrong_particle": wrong_particle,
}
"""The standard order. `filters:` in the recipe names the ones to run, in the order to run them."""


def filter_names(recipe: DataRecipe) -> tuple[str, ...]:
    """Those that a recipe runs; where it names a model, that one drops what is off topic."""
    names = recipe.filters or tuple(FILTERS)
    return tuple(name for name in names if name != "off_topic" or not recipe.off_topic_model)


def choose_filters(names: Sequence[str] = ()) -> list[Filter]:
    """The structural filters and the named ones; no names means all in their standard order."""
    return [*STRUCTURAL, *(FILTERS[name] for name in names or FILTERS)]


def first_rejections(rows: Sequence[Candidate], rules: Rules, filters: Sequence[Filter]) -> list[Rejection | None]:
    """Each row's first finding, None for one that stays. All rows that are left are assessed together."""
    found: list[Rejection | None] = [None] * len(rows)
    left = list(range(len(rows)))
    for check in filters:
        together = [rows[place] for place in left]
        for row in together:
            row.together = together
        for place in left:
            found[place] = check(rows[place], rules)
        left = [place for place in left if found[place] is None]
    for row in rows:
        row.together = ()  # no reference cycle is left behind
    return found
