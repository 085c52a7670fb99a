"""No pattern of korean/ or curation/ may take time that grows with the square of a text: read from the patterns themselves.

A pattern that is searched for is tried from every place. Where it holds a repeat without bound whose run a new attempt can
begin in, and something behind the repeat that can fail, each place of the run scans the rest of it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

import pytest

import align_ko.curation
import align_ko.korean

SAMPLE = frozenset("가은다습음어흠에\u1100\u1161ㅋ漢でéa Ab1_\n\t.,!?:;-*#`\"'“”()[]{}<>|=+/\\$@&~%^\x01")
REPEATS = (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT)
LOOKS = (c.ASSERT, c.ASSERT_NOT)
ALLOWED = {
    "korean.english_words._LEFT_NAME": "looks at 30 characters",
    "korean.prose._FENCE": "what is open ends with the text, so nothing fails",
    "korean.phrases._TOKEN": "its looks behind refuse every digit of a number but the first",
    "korean.words.TOKEN": "as _TOKEN",
    "korean.spelling._LETTER_BY_LETTER": "a long row is found, from its first letter on",
    "curation.repairs._CODE": "as _FENCE",
    "curation.repairs._TAIL": "looks at 1,000 characters",
    "curation.repairs._CLOSING": "looks at 400 characters",
}


def _one(op: Any, value: Any) -> frozenset[str]:
    """The sampled characters that an element of one character takes."""
    if op is c.LITERAL:
        return frozenset(chr(value))
    if op is c.NOT_LITERAL:
        return SAMPLE - {chr(value)}
    if op is c.ANY:
        return SAMPLE - {"\n"}
    taken: set[str] = set()
    for kind, what in value:
        if kind is c.LITERAL:
            taken.add(chr(what))
        elif kind is c.RANGE:
            taken |= {one for one in SAMPLE if what[0] <= ord(one) <= what[1]}
        elif kind is c.CATEGORY:
            sign = {c.CATEGORY_SPACE: r"\s", c.CATEGORY_DIGIT: r"\d", c.CATEGORY_WORD: r"\w"}
            sign |= {c.CATEGORY_NOT_SPACE: r"\S", c.CATEGORY_NOT_DIGIT: r"\D", c.CATEGORY_NOT_WORD: r"\W"}
            taken |= {one for one in SAMPLE if re.match(sign[what], one)}
    return SAMPLE - taken if value and value[0][0] is c.NEGATE else frozenset(taken)


def _sequences(items: list[Any]) -> Iterator[list[Any]]:
    """The pattern as flat sequences, one for each choice of branches; a repeat stays one element."""
    for place, (op, value) in enumerate(items):
        inner = [value[-1]] if op is c.SUBPATTERN else value[1] if op is c.BRANCH else [value] if op is c.ATOMIC_GROUP else []
        if inner:
            for choice in inner:
                yield from _sequences([*items[:place], *choice, *items[place + 1 :]])
            return
    yield items


def _takes(item: Any) -> frozenset[str]:
    """Characters that an element may begin with and hold."""
    op, value = item
    if op in REPEATS:
        return frozenset().union(*(_takes(each) for one in _sequences(list(value[2])) for each in one))
    return _one(op, value) if op in (c.LITERAL, c.NOT_LITERAL, c.ANY, c.IN) else frozenset()


def _is_required(item: Any) -> bool:
    op, value = item
    return value[0] > 0 if op in REPEATS else op not in (c.AT, *LOOKS)


def _guards(item: Any, run: frozenset[str], multiline: bool) -> bool:
    """Does it refuse a place inside the run? `^`, or a look behind for the run's own characters."""
    op, value = item
    if op is c.AT and value in (c.AT_BEGINNING, c.AT_BEGINNING_STRING):
        return not (multiline and "\n" in run)
    if op not in LOOKS or value[0] > 0:
        return False
    last = [each for each in _sequences(list(value[1]))]
    behind = [one[0] for one in last if one]  # of two characters the second is the place itself
    if op is c.ASSERT:
        return all(not run & _takes(one) for one in behind)
    return any(run <= _takes(one) for one in behind)


def faults_of(pattern: str, flags: int) -> list[str]:
    found = []
    for items in _sequences(list(_parser.parse(pattern, flags))):
        for place, (op, value) in enumerate(items):
            if op not in REPEATS or value[1] is not c.MAXREPEAT:
                continue
            run, before, after = _takes(items[place]), items[:place], items[place + 1 :]
            fails = any(_is_required(each) or each[0] in (c.AT, *LOOKS) for each in after)
            inside = all(not _is_required(each) or _takes(each) & run for each in before)
            if fails and inside and not any(_guards(each, run, bool(flags & re.MULTILINE)) for each in before):
                found.append("".join(sorted(run))[:20])
    return found


def modules() -> list[ModuleType]:
    return [
        importlib.import_module(f"{package.__name__}.{each.name}")
        for package in (align_ko.korean, align_ko.curation)
        for each in pkgutil.iter_modules(package.__path__)
    ]


def _patterns(value: object) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from _patterns(list(value.values()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _patterns(each)


def searched() -> dict[str, re.Pattern[str]]:
    """Of every module the patterns that are not only matched at a place that the code names."""
    found = {}
    for module in modules():
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            uses = re.findall(rf"(?<![\w.]){name}\b(?! = )(?!: )(\.\w+)?", source)
            if isinstance(value, re.Pattern) and uses and set(uses) <= {".match", ".fullmatch"}:
                continue
            if not re.search(rf"import .*\b{name}\b", source):
                found |= {f"{module.__name__.split('.', 1)[1]}.{name}.{n}": each for n, each in enumerate(_patterns(value))}
    return found


def test_no_search_begins_anew_within_its_own_run() -> None:
    every = searched()
    assert len(every) > 150
    bad = {name.rsplit(".", 1)[0]: runs for name, each in every.items() if (runs := faults_of(each.pattern, each.flags))}
    assert bad.keys() == ALLOWED.keys()


@pytest.mark.parametrize(
    "pattern", [r"\s*가", r"[가-힣]+나", r"(?<=[ .])[가 ]+나", r"'[^\"]+\"", r"^\s+가", r"\d+(?:,\d+)*원", r"(?:가|\S+) 나"]
)
def test_the_rule_sees_what_is_quadratic(pattern: str) -> None:
    assert faults_of(pattern, int(re.compile(pattern, re.MULTILINE).flags))


@pytest.mark.parametrize(
    "pattern",
    [r"가\s*", r"(?<![가-힣])[가-힣]+나", r"(?<=[ .])[가-힣]+나", r"'[^']+'", r"^[ \t]+가", r"\d(?<!\d\d)\d*원", r"가{2,9}나"],
)
def test_the_rule_lets_pass_what_is_linear(pattern: str) -> None:
    assert not faults_of(pattern, int(re.compile(pattern, re.MULTILINE).flags))
