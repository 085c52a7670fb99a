"""Batched decoding with transformers: left padding, like lengths together, finished rows leave the batch.

`generate` keeps a finished row in the batch until the last one ends, so one looping answer makes all its neighbours pay to
the token limit. Its documented `custom_generate` seam lets us keep its preparation and logits processors, and drop rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from align_ko.chat_format import prompt_ids
from align_ko.recipe import DecodingArgs
from align_ko.records import Message

GREEDY = DecodingArgs()
LOOP_CHECK_EVERY = 16  # steps between looks for loops


@dataclass(frozen=True)
class Generated:
    """One answer. `finished`: the model said eos itself; False: it ran into max_new_tokens."""

    text: str
    finished: bool
    tokens: int


def generation_config(decoding: DecodingArgs, max_new_tokens: int, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """transformers' form of one decoding setting; temperature 0 is greedy."""
    sampling: dict[str, Any] = {"do_sample": False}
    if decoding.temperature > 0:
        # top_k stays off: only the knobs that the recipe names are turned. top_p is applied in _sample.
        sampling = {"do_sample": True, "temperature": decoding.temperature, "top_p": 1.0, "top_k": 0}
    if decoding.repetition_penalty != 1.0:
        sampling["repetition_penalty"] = decoding.repetition_penalty
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        use_cache=True,
        **sampling,
    )


def describe(decoding: DecodingArgs) -> str:
    """`temperature=0.7 top_p=0.9 repetition_penalty=1.1`, or `greedy`."""
    if decoding.temperature == 0 and decoding.repetition_penalty == 1.0:
        return "greedy"
    name = "greedy" if decoding.temperature == 0 else f"temperature={decoding.temperature:g} top_p={decoding.top_p:g}"
    return f"{name} repetition_penalty={decoding.repetition_penalty:g}"


@torch.inference_mode()
def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[Message]],
    decoding: DecodingArgs = GREEDY,
    max_new_tokens: int = 256,
    batch_size: int = 32,
    seed: int = 42,
    stop_loops: bool = False,
    on_batch: Callable[[list[int], list[Generated]], None] | None = None,
) -> list[Generated]:
    """One answer per prompt, in the order of `prompts`.

    `stop_loops` ends a row that only repeats itself (as unfinished): right for drawing candidates, where a loop is cut anyway,
    and never for evaluation. `on_batch` hears the indices and answers of each batch as it ends, so that a caller can save
    them and show progress.
    """
    encoded = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]), reverse=True)
    config = generation_config(decoding, max_new_tokens, tokenizer)
    answers: list[Generated | None] = [None] * len(prompts)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        torch.manual_seed(seed + start)
        ids, mask = _left_pad([encoded[i] for i in indices], int(tokenizer.pad_token_id or 0))  # (B, T)
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            custom_generate=partial(_decode_shrinking, stop_loops=stop_loops, top_p=decoding.top_p),
        )
        batch = [_finish(row[ids.shape[1] :].tolist(), tokenizer) for row in output.cpu()]
        for index, answer in zip(indices, batch, strict=True):
            answers[index] = answer
        if on_batch:
            on_batch(indices, batch)
    return [answer for answer in answers if answer is not None]


def _left_pad(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _finish(tokens: list[int], tokenizer: PreTrainedTokenizerBase) -> Generated:
    finished = tokenizer.eos_token_id in tokens
    if finished:
        tokens = tokens[: tokens.index(tokenizer.eos_token_id)]
    while tokens and not finished and tokens[-1] == tokenizer.pad_token_id:
        tokens = tokens[:-1]  # a loop that was stopped: the rest of its row was never drawn
    text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return Generated(str(text), finished, len(tokens) + finished)


def _sample(scores: torch.Tensor, top_p: float, head: int = 256) -> torch.Tensor:
    """Draw one token per row from the smallest set that holds `top_p` of the probability; scores (B, V) → (B,).

    The same distribution as transformers' top_p, which sorts the whole vocabulary of every row (most of a step on a CPU):
    the set nearly always lies within the `head` likeliest tokens, and where it does not, all are sorted.
    """
    probabilities = scores.softmax(-1)
    if top_p >= 1.0:
        return torch.multinomial(probabilities, 1)[:, 0]
    likeliest, ids = probabilities.topk(min(head, probabilities.shape[-1]))
    if (likeliest.sum(-1) < top_p).any():
        likeliest, ids = probabilities.sort(descending=True)
    inside = likeliest.cumsum(-1) - likeliest < top_p
    chosen = torch.multinomial(likeliest * inside, 1)
    return ids.gather(-1, chosen)[:, 0]


def _is_looping(tokens: list[int], periods: int = 4, longest: int = 24) -> bool:
    """Whether the tail is one piece of up to `longest` tokens, said `periods` times in a row."""
    return any(
        len(tokens) >= size * periods and tokens[-size * periods :] == tokens[-size:] * periods
        for size in range(1, longest + 1)
    )


def _decode_shrinking(
    model: Any,
    input_ids: torch.Tensor,
    generation_config: GenerationConfig,
    logits_processor: Any,
    stop_loops: bool = False,
    top_p: float = 1.0,
    **kwargs: Any,
) -> torch.Tensor:
    """A `custom_generate` loop for `generate`: like its own, but a row that said eos leaves the batch.

    Returns ids of shape (B, T + new), padded with pad after eos.
    """
    batch, width = input_ids.shape
    limit = width + int(generation_config.max_new_tokens or 0)
    eos = torch.as_tensor(generation_config.eos_token_id, device=input_ids.device).reshape(-1)
    result = torch.full((batch, limit), int(generation_config.pad_token_id or 0), device=input_ids.device)
    result[:, :width] = input_ids
    rows = torch.arange(batch, device=input_ids.device)  # which result row each live row fills
    mask: torch.Tensor | None = kwargs["attention_mask"]
    if mask is None:  # `generate` drops a mask that hides nothing
        mask = torch.ones_like(input_ids)
    cache = kwargs["past_key_values"]
    new, positions = input_ids, (mask.cumsum(-1) - 1).clamp(min=0)
    for length in range(width, limit):
        logits = (
            model(
                input_ids=new,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            .logits[:, -1]
            .float()
        )  # (B, V)
        scores = logits_processor(result[rows, :length], logits)
        token = _sample(scores, top_p) if generation_config.do_sample else scores.argmax(-1)
        result[rows, length] = token
        alive = ~torch.isin(token, eos)
        if stop_loops and (length - width) % LOOP_CHECK_EVERY == LOOP_CHECK_EVERY - 1:
            looping = [_is_looping(row) for row in result[rows, width : length + 1].tolist()]
            alive &= ~torch.tensor(looping, device=alive.device)
        if not alive.any():
            break
        if not alive.all():
            keep = alive.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            rows, mask, positions, token = rows[keep], mask[keep], positions[keep], token[keep]
            for processor in logits_processor:  # the repetition penalty holds each row's padding width
                if isinstance(ignored := getattr(processor, "prompt_ignore_length", None), torch.Tensor):
                    processor.prompt_ignore_length = ignored.to(keep.device)[keep]
        new = token[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return result


def stream_answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, messages: list[Message], max_new_tokens: int = 512
) -> Iterator[str]:
    """Pieces of the greedy answer as they come. Their sum is what plain `model.generate(**inputs)` gives."""
    from threading import Thread

    from transformers import TextIteratorStreamer

    ids = torch.tensor([prompt_ids(tokenizer, messages)], device=model.device)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    failure: list[BaseException] = []

    def run() -> None:
        try:
            model.generate(**inputs, streamer=streamer, max_new_tokens=max_new_tokens)
        except BaseException as error:  # in a thread: hand it over, or the reader would wait for ever
            failure.append(error)
            streamer.on_finalized_text("", stream_end=True)

    thread = Thread(target=run, daemon=True)
    thread.start()
    yield from streamer
    thread.join()
    if failure:
        raise failure[0]
