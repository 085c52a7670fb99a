"""What is asked for and what comes back, the same for a model loaded here and for a server. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from align_ko.generation.meter import Meter
from align_ko.recipe import DecodingArgs
from align_ko.records import Message
from align_ko.stores import Store, row_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GREEDY = DecodingArgs()


@dataclass(frozen=True)
class Request:
    """One answer to draw. `seed` belongs to this answer alone: it does not matter which others are drawn beside it."""

    prompt: list[Message]
    decoding: DecodingArgs
    seed: int


@dataclass(frozen=True)
class Generated:
    """One answer. `finished`: the model ended it with eos; False: it ran into max_new_tokens, or looped and was stopped."""

    text: str
    finished: bool
    tokens: int


OnAnswer = Callable[[int, Generated], None]
"""Called with the index of a request and its answer, as soon as that answer ends."""
Draw = Callable[[list[Request], OnAnswer], None]
"""Draws every request, in any order."""
Keys = Callable[[Sequence[Request]], list[str]]
"""The key of every request's answer, see `answer_keys`."""


def answer_keys(
    requests: Sequence[Request],
    tokenizer: PreTrainedTokenizerBase,
    weights: str,
    max_new_tokens: int,
    dtype: str = "",
    stop_loops: bool = False,
    server: str = "",
) -> list[str]:
    """Keys of the answers to `requests`: a hash of everything that an answer depends on, so that none is used for another.

    The prompt counts by its token ids. `weights` is `weights_hash` of the model; `dtype` is the one it computes in; `server`
    names the endpoint's server and model where one draws. Needs the tokenizer, not the model.
    """
    # not describe_format, which refuses a template that cannot be trained with: such a model is evaluated all the same
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    chat_format = row_key(template=tokenizer.chat_template, special=special)
    encoded = encode_prompts(requests, tokenizer)
    prompts = {ids: row_key(ids=ids) for ids in dict.fromkeys(encoded)}
    keys = []
    for request, ids in zip(requests, encoded, strict=True):
        decoding, is_sampled = request.decoding, request.decoding.temperature > 0
        keys.append(
            row_key(
                prompt=prompts[ids],
                chat_format=chat_format,
                weights=weights,
                temperature=float(decoding.temperature),
                top_p=float(decoding.top_p) if is_sampled else None,
                repetition_penalty=float(decoding.repetition_penalty),
                seed=request.seed if is_sampled else None,
                max_new_tokens=max_new_tokens,
                dtype=dtype,
                stop_loops=stop_loops,
                server=server,
            )
        )
    return keys


def encode_prompts(requests: Sequence[Request], tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    """The token ids of every prompt; a prompt that several requests share is encoded once."""
    from align_ko.chat_format import prompt_ids

    known: dict[tuple[str, ...], tuple[int, ...]] = {}
    encoded = []
    for request in requests:
        text = tuple(part for message in request.prompt for part in (message["role"], message["content"]))
        if text not in known:
            known[text] = tuple(prompt_ids(tokenizer, request.prompt))
        encoded.append(known[text])
    return encoded


def draw_missing(
    share: Iterable[int],
    requests: Sequence[Request],
    keys: Sequence[str],
    labels: Sequence[Mapping[str, object]],
    store: Store,
    draw: Draw,
    is_shown: bool = True,
) -> None:
    """Draw those of a share that `store` has no answer to; each answer is added as it ends, with its label for people to read.

    `share` are the numbers of this process's requests. `draw` is called once, or not at all. Requests with one key have one
    answer.
    """
    missing = list({keys[number]: number for number in share if keys[number] not in store}.values())
    if not missing:
        return
    with Meter(len(missing), shown=is_shown) as meter:

        def save(index: int, answer: Generated) -> None:
            store.add(keys[missing[index]], **labels[missing[index]], **asdict(answer))
            meter.advance()

        draw([requests[number] for number in missing], save)


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
