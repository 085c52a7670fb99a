"""Faulty rows: what recipes/quickstart/data/damage.py does to an answer, and four kinds that need more than one answer.

`spoil(kind, draft, …)` returns the row's JSON and what the key says about it, or raises `Untouchable`: another draft is
then tried. A damage meets one paragraph of a long answer, as it does in real data; leaks and one-word answers meet all.
"""

from __future__ import annotations

import json
import random
import re
from functools import cache
from typing import Any

import damage
from damage import DAMAGES, Untouchable

from curation_bench import phrases
from curation_bench.compose import Draft, Messages
from curation_bench.units import DATA

SHARES = {  # rows of each kind in a thousand; 250 in all
    "mixed_speech_level": 25,
    "too_short": 25,
    "rambling": 20,
    "repetition": 25,
    "strange_characters": 25,
    "chat_slang": 20,
    "template_leak": 20,
    "cut_off": 25,
    "broken_row": 10,
    "exact_duplicate": 20,
    "near_duplicate": 20,
    "personal_data": 10,
    "evaluation_overlap": 5,
}
COPIES = ("exact_duplicate", "near_duplicate")
EVALUATION_FILE = DATA / "evaluation/prompts.jsonl"
OPENINGS = ("저기요, ", "있잖아요, ", "잠깐만요. ", "하나만요. ", "혹시 말이에요, ")
Spoilt = tuple[str, dict[str, Any]]
# The same sentences come back in many rows; taking one apart costs Kiwi a millisecond.
damage.to_plain, damage.main_noun = cache(damage.to_plain), cache(damage.main_noun)


def as_json(messages: Any, source: str) -> str:
    return json.dumps({"messages": messages, "source": source}, ensure_ascii=False)


def spoil(kind: str, draft: Draft, source: str, turn: int, rng: random.Random) -> Spoilt:
    """`turn` counts the rows of a kind, so that its variants come equally often."""
    if kind == "broken_row":
        return break_row(draft.messages, source, turn, rng)
    if kind == "personal_data":
        opening = draft.messages[0]["content"]
        variant, planted = leave_personal_data(draft.messages, turn, rng)
        return as_json(draft.messages, source), {"variant": variant, "planted": planted, "opening": opening}
    place = rng.randrange(1, len(draft.messages), 2)
    question, answer = draft.messages[place - 1]["content"], draft.messages[place]["content"]
    if kind in ("too_short", "template_leak"):
        spoilt, variant = DAMAGES[kind](answer, question, turn, rng)
    else:
        parts = answer.split("\n\n")
        spot = len(parts) - 1 if kind == "cut_off" else rng.randrange(len(parts))
        number, text = re.fullmatch(r"(\d\. )?(.*)", parts[spot], re.DOTALL).groups("")  # type: ignore[union-attr]
        if len(text.split()) < 8:
            raise Untouchable
        text, variant = DAMAGES[kind](text, question, turn, rng)
        parts[spot] = number + text
        spoilt = "\n\n".join(parts)
    draft.messages[place]["content"] = spoilt
    return as_json(draft.messages, source), {"variant": variant}


def break_row(messages: Messages, source: str, turn: int, rng: random.Random) -> Spoilt:
    """A row of the wrong shape, or one that is cut off in the middle of its JSON."""
    variants = ("missing_key", "wrong_type", "empty", "null", "roles", "no_answer", "no_messages", "invalid_json")
    variant = variants[turn % len(variants)]
    broken: Any = messages
    if variant == "roles":
        broken = messages[::-1]
    elif variant == "no_answer":
        broken = messages[:-1]
    elif variant == "no_messages":
        broken = None
    elif variant != "invalid_json":
        last: dict[str, Any] = {"role": "assistant"}
        if variant != "missing_key":
            last["content"] = {"wrong_type": 42, "empty": " ", "null": None}[variant]
        broken = [*messages[:-1], last]
    line = as_json(broken, source)
    return (line[: rng.randrange(len(line) // 2, len(line) - 2)] if variant == "invalid_json" else line), {"variant": variant}


def leave_personal_data(messages: Messages, turn: int, rng: random.Random) -> tuple[str, str]:
    """(variant, what was put in): made-up data of the right form and with right check digits, in question or answer."""
    variant = ("resident_number", "phone", "card", "e-mail")[turn % 4]
    if variant == "phone":
        planted = f"010-{rng.randrange(2000, 9999)}-{rng.randrange(10000):04}"
    elif variant == "e-mail":
        name = rng.choice(("haneul", "minsu", "jiwoo", "sora"))
        planted = f"{name}.{rng.choice('kclp')}{rng.randrange(1000)}@haemaru-mail.kr"
    elif variant == "card":
        digits = [9, *(rng.randrange(10) for _ in range(14))]  # 9: domestic cards
        check = -sum(sum(divmod(digit * 2, 10)) if place % 2 == 0 else digit for place, digit in enumerate(digits)) % 10
        text = "".join(map(str, [*digits, check]))
        planted = "-".join(text[i : i + 4] for i in range(0, 16, 4))
    else:
        birth = f"{rng.randrange(50, 100)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"
        first = f"{birth}{rng.choice('12')}{rng.randrange(10**5):05}"
        weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
        check = (11 - sum(int(digit) * weight for digit, weight in zip(first, weights, strict=True)) % 11) % 10
        planted = f"{first[:6]}-{first[6:]}{check}"
    names = {"resident_number": "주민등록번호", "phone": "전화번호", "card": "카드 번호", "e-mail": "메일 주소"}
    where = rng.choice(("question", "answer"))
    message = messages[0] if where == "question" else messages[-1]
    said = "제 {name}(은/는)" if where == "question" else "담당자 {name}(은/는)"
    ending = "예요" if variant == "e-mail" or planted[-1] in "2459" else "이에요"  # 이, 사, 오, 구 end in a vowel
    message["content"] += f" {phrases.fill(said, rng, name=names[variant])} {planted}{ending}."
    return f"{variant}_{where}", planted


def leak_evaluation(draft: Draft, source: str, prompts: list[tuple[str, str]], turn: int, rng: random.Random) -> Spoilt:
    """An evaluation prompt with its answer: alone, word for word or opened with a word more, or inside a conversation."""
    question, answer = prompts[turn % len(prompts)]
    variant = ("exact", "opened", "in_conversation")[turn // len(prompts) % 3]
    if variant != "exact":
        question = rng.choice(OPENINGS) + question
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return as_json([*turns, *draft.messages] if variant == "in_conversation" else turns, source), {"variant": variant}


def copy(kind: str, messages: Messages, source: str, turn: int, rng: random.Random) -> Spoilt:
    """The row again: the same but for white space and punctuation, or with a sentence or a number changed."""
    messages = json.loads(json.dumps(messages))
    first, last = messages[0], messages[-1]
    if kind == "exact_duplicate":
        variant = ("identical", "spacing", "punctuation")[turn % 3]
        if variant == "spacing":
            last["content"] = last["content"].replace("\n\n", "\n") + " \n"
            first["content"] = " " + first["content"].replace("\n", " ")
        elif variant == "punctuation":
            first["content"] = first["content"].rstrip(".?! ")
            last["content"] = re.sub(r"(?<=요|다)\.(?=\s|$)", "!", last["content"], count=1)
        return as_json(messages, source), {"variant": variant}
    variant = ("opening", "closing", "number", "sentence_dropped")[turn % 4]
    if variant == "opening":
        first["content"] = rng.choice(OPENINGS) + first["content"]
    elif variant == "closing":
        last["content"] += " " + rng.choice([said for said in phrases.CLOSINGS if said not in last["content"]])
    elif variant == "number":
        numbers = list(re.finditer(r"(?<![\d.,])[2-9](?![\d.,])", last["content"]))
        if not numbers:
            raise Untouchable
        found = rng.choice(numbers)
        other = rng.choice([digit for digit in "23456789" if digit != found.group()])
        last["content"] = last["content"][: found.start()] + other + last["content"][found.end() :]
    else:
        shorter = re.sub(r"(?<=[.!?]) [^.!?\n\"'`]+[.!?]$", "", last["content"])
        if shorter == last["content"] or re.search(r"\d\.$", shorter) or len(shorter) < 0.8 * len(last["content"]):
            raise Untouchable
        last["content"] = shorter
    return as_json(messages, source), {"variant": variant}


def evaluation_pairs() -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in EVALUATION_FILE.read_text(encoding="utf-8").splitlines()]
    return [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows]
