"""Clean rows: two or more conversations joined into one that no other row resembles.

Every row holds another set of conversations, so that two clean rows share at most a part of their words, and opens with
a sentence of its own about who asks. Answers begin and end in whole sentences.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation_bench import phrases
from curation_bench.units import Unit, closed

Messages = list[dict[str, str]]

ANSWER_CHARACTERS = {"kullm_v2": (330, 0.50), "koalpaca": (390, 0.50), "kowiki_qa": (230, 0.40), "smol_koreantalk": (190, 0.35)}
"""Median and spread (sigma of the logarithm) of an answer's length by source: our assumption, see bench_curation.py."""
LOWEST, HIGHEST = 60, 1450  # inside the recipe's 50-1,500
MOST_QUESTION = 470  # the recipe's 500, less the opening that a near-duplicate gets
TURN_SHARES = {1: 0.3, 2: 0.35, 3: 0.2, 4: 0.15}  # conversations joined in a dialogue
NEARBY = 20  # rows of one kind between which a message's questions are drawn: files are ordered by subject
CORE = 0.75  # two rows that share this part of their answers are 0.6 alike (Jaccard), below what counts as a copy
ATTEMPTS_A_LENGTH = 12
ATTEMPTS = 50 * ATTEMPTS_A_LENGTH
POOLS = {"kullm_v2": "instruction", "koalpaca": "instruction", "kowiki_qa": "knowledge", "smol_koreantalk": "anything"}


@dataclass
class Draft:
    """A row before it has a place: its messages, and the conversations in it."""

    messages: Messages
    members: frozenset[int]
    core: frozenset[int]
    """The longest of them, which make up most of the answers; no other clean row may have the same."""


@dataclass
class Composer:
    """Draws rows; remembers which sets of conversations are used up."""

    units: Sequence[Unit]
    topics: Sequence[str]
    """What each unit is about in a word or two ("멸치 육수"), or ""."""
    rng: random.Random
    used: set[frozenset[int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        chosen: dict[str, Callable[[Unit], bool]] = {
            "instruction": lambda unit: unit.source in ("kullm_v2", "koalpaca"),
            "knowledge": lambda unit: unit.factual,
            "small talk": lambda unit: unit.source == "smol_koreantalk",
            "anything": lambda unit: len(unit.question) < 60,
        }
        self.pools = {
            (name, polite): [unit for unit in self.units if fits(unit) and unit.polite == polite]
            for name, fits in chosen.items()
            for polite in (True, False)
        }

    def _pool(self, name: str) -> list[Unit]:
        """Those with polite questions or those with plain ones, as often as there are such."""
        pools = [self.pools[name, True], self.pools[name, False]]
        return self.rng.choices(pools, [len(pool) for pool in pools])[0]

    def draft(self, source: str) -> Draft:
        """A row whose set of conversations is not taken yet; `accept` takes it."""
        for attempt in range(ATTEMPTS):
            step = attempt % ATTEMPTS_A_LENGTH
            if step == 0:  # what is wanted stays while sets are looked for in wider circles: else short rows would run out
                length = self._length(source)
                joined = self.rng.choices(list(TURN_SHARES), list(TURN_SHARES.values()))[0]
            several = source == "smol_koreantalk" and joined > 1
            if several:
                members = self._join(joined)
                answers = ["".join(answer for _, answer in unit.turns) for unit in members]
            else:
                at_most = 3 if source == "smol_koreantalk" else 7
                members, answers = self._gather(self._pool(POOLS[source]), length, NEARBY * 2 ** (step // 2), at_most)
            whole = frozenset(unit.place for unit in members)
            core = _core(members, answers)
            if whole in self.used or core in self.used:
                continue
            messages = self._conversation(members) if several else self._single(members, answers)
            if messages:
                return Draft(messages, whole, core)
        raise SystemExit(f"{source}: no new set of conversations found in {ATTEMPTS} attempts; lower --rows")

    def accept(self, draft: Draft) -> None:
        self.used |= {draft.members, draft.core}

    def _length(self, source: str) -> int:
        median, spread = ANSWER_CHARACTERS[source]
        return round(min(max(median * self.rng.lognormvariate(0, spread), LOWEST), HIGHEST))

    def _single(self, members: Sequence[Unit], answers: Sequence[str]) -> Messages | None:
        """One message with several questions, one answer to all of them; None where it comes out too long or too short."""
        asked, numbered = self._ask(members)
        said = self._answer(members, answers, numbered)
        return _turn(asked, said) if len(asked) <= MOST_QUESTION and LOWEST <= len(said) <= HIGHEST else None

    def _gather(self, pool: Sequence[Unit], length: int, nearby: int, at_most: int) -> tuple[list[Unit], list[str]]:
        """Conversations near one another whose answers, shortened to whole sentences, are about `length` together."""
        middle = self.rng.randrange(len(pool))
        around = pool[max(middle - nearby, 0) : middle + nearby + 1]
        others = self.rng.sample(around, min(len(around), 2 * at_most))
        members, answers, left = [pool[middle]], [pool[middle].beginning(max(length // 2, 40))], length
        left -= len(answers[0])
        for unit in others:
            if len(members) == at_most or (len(members) > 1 and left < 50):
                break
            answer = unit.beginning(max(left, 40))
            if len(answer) > left + 80 or unit is pool[middle]:
                continue
            members.append(unit)
            answers.append(answer)
            left -= len(answer)
        return members, answers

    def _context(self, unit: Unit) -> str:
        """A sentence on who asks and why; in small talk, two on how things are."""
        if unit.source != "smol_koreantalk":
            return phrases.fill(self._pick(phrases.CONTEXTS, unit.polite), self.rng)
        said = self.rng.sample(phrases.LIFE, 2)  # one alone leaves the openings of many conversations alike
        return " ".join(phrases.fill(pair[0 if unit.polite else 1], self.rng) for pair in said)

    def _pick(self, pairs: Sequence[tuple[str, str]], polite: bool) -> str:
        return self.rng.choice(pairs)[0 if polite else 1]

    def _ask(self, members: Sequence[Unit]) -> tuple[str, bool]:
        """(the message, whether its questions are numbered)."""
        polite, questions = members[0].polite, [closed(unit.question) for unit in members]
        context = self._context(members[0])
        multi_line = any("\n" in question for question in questions)
        if len(questions) > 2 or (self.rng.random() < 0.3 and not multi_line):
            listed = "\n".join(f"{number}. {question}" for number, question in enumerate(questions, 1))
            return f"{context} {self._pick(phrases.LISTS, polite)}\n{listed}", True
        gap = "\n\n" if multi_line else " "
        links = [self._pick(phrases.LINKS, polite) for _ in questions[1:]]
        rest = [f"{link} {question}" for link, question in zip(links, questions[1:], strict=True)]
        return gap.join([f"{context} {questions[0]}", *rest]), False

    def _answer(self, members: Sequence[Unit], answers: Sequence[str], numbered: bool) -> str:
        if numbered:
            parts = [f"{number}. {answer}" for number, answer in enumerate(answers, 1)]
        elif self.rng.random() < 0.5 and all(self.topics[unit.place] for unit in members):
            leads = [self.rng.choice(phrases.NEXT_HEADS if number else phrases.HEADS) for number in range(len(members))]
            topics = [self.topics[unit.place] for unit in members]
            heads = [phrases.fill(lead, self.rng, topic=topic) for lead, topic in zip(leads, topics, strict=True)]
            parts = [f"{head} {answer}" for head, answer in zip(heads, answers, strict=True)]
        else:
            parts = list(answers)
        if self.rng.random() < 0.25:
            parts.append(self.rng.choice(phrases.CLOSINGS))
        return "\n\n".join(parts)

    def _join(self, count: int) -> list[Unit]:
        """Conversations to have one after the other, the first and some of the later ones small talk."""
        small_talk = self._pool("small talk")
        anything = self.pools["anything", small_talk[0].polite]
        members = [self.rng.choice(small_talk)]
        while len(members) < count:
            unit = self.rng.choice(small_talk if self.rng.random() < 0.4 else anything)
            if unit not in members and len(unit.question) >= 10:
                members.append(unit)
        return members

    def _conversation(self, members: Sequence[Unit]) -> Messages:
        messages: Messages = []
        for unit in members:
            for number, (question, answer) in enumerate(unit.turns):
                messages += _turn(question if number else self._open(unit, bool(messages)), answer)
        return messages

    def _open(self, unit: Unit, later: bool) -> str:
        """The first question of a conversation, led over from the one before or set in a situation."""
        question = closed(unit.question)
        if later:
            lead = self._pick(phrases.TURNS, unit.polite)
            return f"{lead} {self._context(unit)} {question}" if self.rng.random() < 0.4 else f"{lead} {question}"
        context = self._context(unit)
        return f"{question} {context}" if len(question) < 10 else f"{context} {question}"  # a greeting comes first


def _core(members: Sequence[Unit], answers: Sequence[str]) -> frozenset[int]:
    """The members with the longest answers, as many as make up CORE of the whole."""
    lengths = {unit.place: len(answer) for unit, answer in zip(members, answers, strict=True)}
    core, length, whole = set(), 0, sum(lengths.values())
    for place in sorted(lengths, key=lambda place: (-lengths[place], place)):
        if length >= CORE * whole:
            break
        core.add(place)
        length += lengths[place]
    return frozenset(core)


def _turn(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def find_topics(units: Sequence[Unit], tokenize: Callable[[str], Any]) -> list[str]:
    """The longest run of nouns in each question that its answer has too: "멸치 육수 낼 때 …" → "멸치 육수"."""
    topics: list[str] = []
    for unit in units:
        runs, last_end = [""], -2
        for token in tokenize(unit.question):
            if token.tag in ("NNG", "NNP"):
                space = " " if token.start == last_end + 1 else ""
                runs[-1] = runs[-1] + space + token.form if token.start <= last_end + 1 and runs[-1] else token.form
                last_end = token.end
            elif runs[-1]:
                runs.append("")
        kept = [run for run in runs if 2 <= len(run) <= 12 and run in unit.answer and run in unit.question]
        topics.append(max(kept, key=len, default=""))
    return topics
