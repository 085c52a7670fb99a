"""What is asked for and what comes back, the same for a model loaded here and for a server. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from align_ko.recipe import DecodingArgs
from align_ko.records import Message

GREEDY = DecodingArgs()


@dataclass(frozen=True)
class Request:
    """One answer to draw. `seed` belongs to this answer alone: it does not matter which others are drawn beside it."""

    prompt: list[Message]
    decoding: DecodingArgs
    seed: int


@dataclass(frozen=True)
class Generated:
    """One answer. `finished`: the model said eos itself; False: it ran into max_new_tokens, or looped and was stopped."""

    text: str
    finished: bool
    tokens: int


OnAnswer = Callable[[int, Generated], None]
"""Hears the index of a request and its answer, as soon as that answer ends."""
Draw = Callable[[list[Request], OnAnswer], None]
"""Draws every request; in which order is its own affair."""


def row_seed(*parts: object) -> int:
    """A seed of 31 bits (what every server takes) that belongs to these values.

    `row_seed(42, "9f2c", "warm", 0)` is the same number on every machine and in every run.
    """
    text = "\x1e".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def describe(decoding: DecodingArgs) -> str:
    """`temperature=0.7 top_p=0.9 repetition_penalty=1.1`, or `greedy`."""
    if decoding.temperature == 0 and decoding.repetition_penalty == 1.0:
        return "greedy"
    name = "greedy" if decoding.temperature == 0 else f"temperature={decoding.temperature:g} top_p={decoding.top_p:g}"
    return f"{name} repetition_penalty={decoding.repetition_penalty:g}"
