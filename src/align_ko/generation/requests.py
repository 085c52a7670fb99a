"""Requests and answers, the same for a model loaded here and for a server. No torch here."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from align_ko.recipe import DecodingArgs
from align_ko.records import Message
from align_ko.stores import Store, row_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GREEDY = DecodingArgs()
LOG_EVERY = 30.0  # seconds between two lines of progress in a log


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

    def __post_init__(self) -> None:
        if not self.finished:  # a character takes several tokens, and the last one may have been cut between them
            object.__setattr__(self, "text", self.text.rstrip("\ufffd"))


OnAnswer = Callable[[int, Generated], None]  # called with the index of a request and its answer, as soon as that ends
Draw = Callable[[list[Request], OnAnswer], None]  # draws every request, in any order
Keys = Callable[[Sequence[Request]], list[str]]  # `answer_keys` of one model


def answer_keys(
    requests: Sequence[Request],
    tokenizer: PreTrainedTokenizerBase,
    weights: str,
    max_new_tokens: int,
    dtype: str = "",
    stop_loops: bool = False,
    server: str = "",
) -> list[str]:
    """Keys of the answers: hashes of all that they depend on. A prompt counts by its token ids; `weights` is the model's
    `weights_hash`, `server` names an endpoint's server and model."""
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

    texts = [tuple((message["role"], message["content"]) for message in request.prompt) for request in requests]
    prompts = dict(zip(texts, (request.prompt for request in requests), strict=True))
    ids = {text: tuple(prompt_ids(tokenizer, prompt)) for text, prompt in prompts.items()}
    return [ids[text] for text in texts]


def draw_missing(
    share: Iterable[int],
    requests: Sequence[Request],
    keys: Sequence[str],
    labels: Sequence[Mapping[str, object]],
    store: Store,
    draw: Draw,
    is_shown: bool = True,
) -> None:
    """Draw the requests numbered in `share` that `store` has no answer to, and add each answer as it ends, with its label.
    `draw` is called once, or not at all; requests with one key have one answer."""
    missing = list({keys[number]: number for number in share if keys[number] not in store}.values())
    if not missing:
        return
    with progress(len(missing), is_shown) as advance:

        def save(index: int, answer: Generated) -> None:
            store.add(keys[missing[index]], **labels[missing[index]], **asdict(answer))
            advance()

        draw([requests[number] for number in missing], save)


@contextmanager
def progress(total: int, is_shown: bool = True, what: str = "answers") -> Iterator[Callable[[], None]]:
    """Yield what to call after each answer. Shows a bar in a terminal, a line every half minute in a log, and at the end
    `600 of 600 answers in 3 min (3.0/s)`."""
    began = printed = time.monotonic()
    done = 0
    is_live = is_shown and sys.stdout.isatty()
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))

    def advance() -> None:
        nonlocal done, printed
        done, now = done + 1, time.monotonic()
        rate = done / max(now - began, 1e-3)
        bar.update(task, advance=1, rate=f"{rate:.1f}/s")
        if is_shown and not is_live and now - printed >= LOG_EVERY:
            printed = now
            print(f"{done} of {total} {what}, {rate:.1f}/s, {clock((total - done) / rate)} left", flush=True)

    try:
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), disable=not is_live, transient=True) as bar:
            task = bar.add_task(what, total=total, rate="")
            yield advance
    finally:
        if is_shown:
            seconds = time.monotonic() - began
            print(f"{done} of {total} {what} in {clock(seconds)} ({done / max(seconds, 1e-3):.1f}/s)", flush=True)


def clock(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def row_seed(*parts: object) -> int:
    """A seed of 31 bits (what every server takes), the same for these values on every machine and in every run."""
    text = "\x1e".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def describe(decoding: DecodingArgs) -> str:
    """`temperature=0.7 top_p=0.9 repetition_penalty=1.1`, or `greedy`."""
    if decoding.temperature == 0 and decoding.repetition_penalty == 1.0:
        return "greedy"
    name = "greedy" if decoding.temperature == 0 else f"temperature={decoding.temperature:g} top_p={decoding.top_p:g}"
    return f"{name} repetition_penalty={decoding.repetition_penalty:g}"
