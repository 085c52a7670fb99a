"""Demands on an answer that a rule can check: three items, under 50 characters, in 해요체, JSON alone.

A prompt's demands are small JSON beside it: `{"demand": "items", "count": 3}`. `demand` names a function of this file, the
other keys are its arguments; each says whether an answer meets the demand. They are tests (`unmet`) and rewards (`reward`, as
TRL's GRPOTrainer calls one). Numbers are exact with `count`, bounds with `at_least` and `at_most`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError, validate_call

from align_ko.errors import UserError, nearest
from align_ko.korean.prose import MARKER, sentences
from align_ko.korean.speech_level import PLAIN, POLITE, document_level, sentence_level

Demand = Mapping[str, Any]
_BEFORE_MARKER = re.compile(r"^\s*(?:#+\s*|\*\*(?=\S))")  # **1. 제목** and ### 1. 제목
_NUMBERED = re.compile(r"\s*\(?(\d+)[.)]")
_FENCED = re.compile(r"\s*```(?:json|JSON)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_RULE = re.compile(r"[\s|:-]*-[\s|:-]*")
_LATIN = re.compile(r"[A-Za-zＡ-Ｚａ-ｚ]")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_CLOSING = " \n\"'”’」』)*"


def _fits(number: int, count: int | None, at_least: int | None, at_most: int | None) -> bool:
    exact = count is None or number == count
    return exact and (at_least is None or number >= at_least) and (at_most is None or number <= at_most)


def _lines(answer: str) -> list[str]:
    return [line.strip() for line in answer.split("\n") if line.strip()]


def list_items(answer: str) -> list[str]:
    """Items of the outermost list with their markers; where no line has a marker, all lines.

    `두 가지예요.\\n1. 물\\n2. 불` → `1. 물`, `2. 불`; `물\\n불` → `물`, `불`
    """
    lines = [_BEFORE_MARKER.sub("", line) for line in answer.split("\n") if line.strip()]
    marked = [line for line in lines if MARKER.match(line)]
    outer = min((len(line) - len(line.lstrip()) for line in marked), default=0)
    return [line.strip() for line in marked if len(line) - len(line.lstrip()) == outer] or [line.strip() for line in lines]


def items(
    answer: str,
    count: int | None = None,
    at_least: int | None = None,
    at_most: int | None = None,
    marker: Literal["any", "number", "bullet"] = "any",
) -> bool:
    """So many list items; numbered ones count up from 1."""
    found = list_items(answer)
    numbers = [int(match[1]) if (match := _NUMBERED.match(item)) else 0 for item in found]
    if marker == "number" and numbers != list(range(1, len(found) + 1)):
        return False
    if marker == "bullet" and (any(numbers) or not all(MARKER.match(item) for item in found)):
        return False
    return _fits(len(found), count, at_least, at_most)


def count_sentences(answer: str, count: int | None = None, at_least: int | None = None, at_most: int | None = None) -> bool:
    found = [part for part in sentences(answer) if part.kind in ("prose", "item") and any(map(str.isalnum, part.text))]
    return _fits(len(found), count, at_least, at_most)


def characters(
    answer: str,
    count: int | None = None,
    at_least: int | None = None,
    at_most: int | None = None,
    spaces: bool = True,
) -> bool:
    """Length, white space included (공백 포함) unless `spaces` is false."""
    return _fits(len(answer.strip()) if spaces else len("".join(answer.split())), count, at_least, at_most)


def words(answer: str, count: int | None = None, at_least: int | None = None, at_most: int | None = None) -> bool:
    """어절: what stands between spaces."""
    return _fits(len(answer.split()), count, at_least, at_most)


def lines(answer: str, count: int | None = None, at_least: int | None = None, at_most: int | None = None) -> bool:
    return _fits(len(_lines(answer)), count, at_least, at_most)


def paragraphs(answer: str, count: int | None = None, at_least: int | None = None, at_most: int | None = None) -> bool:
    """Blocks with an empty line between them."""
    return _fits(len([part for part in re.split(r"\n\s*\n", answer) if part.strip()]), count, at_least, at_most)


def level(answer: str, level: Literal["haeyo", "hapsyo", "plain", "written"]) -> bool:
    """Speech level as the judge reads it: 해요체, 합쇼체, 반말, or the written -다 of reports.

    Items of a list, which the judge takes for notes where they are not polite, count one by one.
    """
    read = document_level(answer)
    if level in ("plain", "written") and not read.levels:
        allowed = PLAIN if level == "plain" else {"neutral"}
        found = {sentence_level(part.text) for part in sentences(answer)}
        return bool(found) and found <= allowed
    if level in POLITE:
        return read.verdict == "polite" and {item.level for item in read.levels if item.level in POLITE} == {level}
    return read.verdict == {"plain": "plain", "written": "neutral"}[level]


def no_latin(answer: str) -> bool:
    return not _LATIN.search(answer)


def no_digits(answer: str) -> bool:
    return not any(map(str.isdigit, answer))


def use(
    answer: str, words: list[str], count: int | None = None, at_least: int | None = None, at_most: int | None = None
) -> bool:
    """Each of the words occurs, once or more where no number is given."""
    at_least = 1 if (count, at_least, at_most) == (None, None, None) else at_least
    return all(_fits(answer.count(word), count, at_least, at_most) for word in words)


def avoid(answer: str, words: list[str]) -> bool:
    return not any(word in answer for word in words)


def json_only(answer: str, keys: list[str] | None = None, count: int | None = None) -> bool:
    """Nothing but JSON, fenced or not: an object of exactly these keys, or, with `count`, a list of so many of them."""
    fenced = _FENCED.fullmatch(answer)
    try:
        value = json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return False
    if count is not None and not (isinstance(value, list) and len(value) == count):
        return False
    objects = value if isinstance(value, list) and count is not None else [value]
    return keys is None or all(isinstance(one, dict) and set(one) == set(keys) for one in objects)


def question(answer: str) -> bool:
    """Ends with a question."""
    return answer.rstrip(_CLOSING).endswith(("?", "？"))


def begin(answer: str, text: str) -> bool:
    return answer.lstrip().startswith(text)


def end(answer: str, text: str) -> bool:
    """Whatever the last punctuation mark is."""
    return answer.rstrip(_CLOSING + ".!?").endswith(text.rstrip(".!?"))


def choice(answer: str, of: list[str]) -> bool:
    """One of these and nothing else."""
    return answer.strip().rstrip(".!") in of


def order(answer: str, words: list[str]) -> bool:
    """All of the words, each first named after the one before."""
    places = [answer.find(word) for word in words]
    return -1 not in places and places == sorted(places)


def in_order(answer: str, by: Literal["text", "number"] = "text", descending: bool = False) -> bool:
    """List items in the order 가나다, or by the first number of each."""
    texts = [item[marker.end() :] if (marker := MARKER.match(item)) else item for item in list_items(answer)]
    if by == "text":
        return texts == sorted(texts, reverse=descending)
    found = [_NUMBER.search(text) for text in texts]
    numbers = [float(match[0].replace(",", "")) for match in found if match]
    return len(numbers) == len(texts) and numbers == sorted(numbers, reverse=descending)


def table(answer: str, columns: int, rows: int | None = None) -> bool:
    """A Markdown table of so many columns, and rows below its header."""
    cells = [line.strip("|").split("|") for line in _lines(answer) if "|" in line]
    if len(cells) < 3 or not _RULE.fullmatch("|".join(cells[1])):
        return False
    return all(len(row) == columns for row in cells) and (rows is None or len(cells) - 2 == rows)


def initials(answer: str, text: str) -> bool:
    """N행시: a line for each syllable, which it begins with. 바다 → `바람이 불어요` and `다 함께 걸어요`."""
    found = [line.lstrip("\"'“*- ") for line in _lines(answer)]
    return len(found) == len(text) and all(line.startswith(first) for line, first in zip(found, text, strict=True))


VERIFIERS: dict[str, Callable[..., bool]] = {
    "items": items, "sentences": count_sentences, "characters": characters, "words": words, "lines": lines,
    "paragraphs": paragraphs, "level": level, "no_latin": no_latin, "no_digits": no_digits, "use": use, "avoid": avoid,
    "json": json_only, "question": question, "begin": begin, "end": end, "choice": choice, "order": order,
    "sorted": in_order, "table": table, "initials": initials,
}  # fmt: skip
_CHECKED = {name: validate_call(verify) for name, verify in VERIFIERS.items()}


def is_met(answer: str, demand: Demand) -> bool:
    """UserError for an unknown demand, or arguments that it does not take.

    >>> is_met("- 물\\n- 소금", {"demand": "items", "count": 2}), is_met("물과 소금", {"demand": "begin", "text": "소금"})
    (True, False)
    """
    name = str(demand.get("demand", ""))
    if name not in VERIFIERS:
        close = nearest(name, VERIFIERS)
        raise UserError(f"there is no demand '{name}'", key="demands", expected=f"one of {', '.join(VERIFIERS)}", nearest=close)
    try:
        return _CHECKED[name](answer, **{key: value for key, value in demand.items() if key != "demand"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"demand '{name}': {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(problem, key="demands", expected='{"demand": "items", "count": 3}') from None


def unmet(answer: str, demands: Sequence[Demand]) -> list[Demand]:
    """The demands that an answer does not meet."""
    return [demand for demand in demands if not is_met(answer, demand)]


def reward(completions: Sequence[Any], demands: Sequence[Sequence[Demand]], **_: object) -> list[float]:
    """Share of its demands that each answer meets, 1.0 without any: a reward function for TRL's GRPOTrainer, with `demands` a
    column of the data set. A completion is a text or a list of messages."""
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [1 - len(unmet(text, asked)) / max(1, len(asked)) for text, asked in zip(texts, demands, strict=True)]
