"""Batched decoding with transformers: one queue, left padding, like lengths together, finished rows leave the batch.

`generate` keeps a finished row in the batch until the last one ends, so one looping answer makes all its neighbours pay to
the token limit. Its documented `custom_generate` seam lets us keep its preparation, and drop rows. All settings and samples
share the queue: a prompt is read once for all the answers to it in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from align_ko.chat_format import prompt_ids
from align_ko.generation.requests import GREEDY, Generated, OnAnswer, Request, encode_prompts, row_seed
from align_ko.generation.sampling import RowKnobs
from align_ko.recipe import DecodingArgs
from align_ko.records import Message

LOOP_CHECK_EVERY = 16  # steps between looks for loops


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[Message]],
    decoding: DecodingArgs = GREEDY,
    max_new_tokens: int = 256,
    batch_size: int = 32,
    seed: int = 42,
    stop_loops: bool = False,
) -> list[Generated]:
    """One answer per prompt (a question, or messages that end with one), in their order; for `stop_loops` see draw_local."""
    answers: dict[int, Generated] = {}
    asked: list[list[Message]] = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
    requests = [Request(prompt, decoding, row_seed(seed, index)) for index, prompt in enumerate(asked)]
    draw_local(requests, answers.__setitem__, model, tokenizer, max_new_tokens, batch_size, stop_loops)
    return [answers[index] for index in range(len(prompts))]


@torch.inference_mode()
def draw_local(
    requests: list[Request],
    on_answer: OnAnswer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    batch_size: int,
    stop_loops: bool = False,
) -> None:
    """Answer every request, longest prompts first (what does not fit into memory shows at once).

    `stop_loops` ends a row that only repeats itself (as unfinished): right for drawing candidates, where a loop is cut anyway,
    and never for evaluation. An answer depends on its own request, not on its batch, but for rounding: matrix products of
    another batch may differ in the last bit, and where two tokens are equally likely that decides.
    """
    encoded = encode_prompts(requests, tokenizer)
    order = sorted(range(len(requests)), key=lambda i: (-len(encoded[i]), encoded[i]))  # a prompt's requests are neighbours
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        use_cache=True,
    )
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        distinct = {ids: number for number, ids in enumerate(dict.fromkeys(encoded[i] for i in batch))}
        ids, mask = _left_pad(list(distinct), int(tokenizer.pad_token_id or 0))  # (prompts, T)
        decodings, seeds = [requests[i].decoding for i in batch], [requests[i].seed for i in batch]

        def on_end(row: int, tokens: list[int], finished: bool, batch: list[int] = batch) -> None:
            text = tokenizer.decode(tokens[:-1] if finished else tokens, skip_special_tokens=True)
            on_answer(batch[row], Generated(str(text).strip(), finished, len(tokens)))

        model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            custom_generate=partial(
                _decode_shrinking,
                knobs=RowKnobs(decodings, seeds, max_new_tokens, model.device),
                prompt_of=[distinct[encoded[i]] for i in batch],
                on_end=on_end,
                stop_loops=stop_loops,
            ),
        )


def _left_pad(rows: list[tuple[int, ...]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _is_looping(tokens: list[int], periods: int = 4, longest: int = 24) -> bool:
    """Whether the tail is one piece of up to `longest` tokens, repeated `periods` times."""
    return any(
        len(tokens) >= size * periods and tokens[-size * periods :] == tokens[-size:] * periods
        for size in range(1, longest + 1)
    )


def _decode_shrinking(
    model: Any,
    input_ids: torch.Tensor,
    generation_config: GenerationConfig,
    knobs: RowKnobs,
    prompt_of: list[int],
    on_end: Callable[[int, list[int], bool], None],
    stop_loops: bool = False,
    **kwargs: Any,
) -> torch.Tensor:
    """A `custom_generate` loop for `generate`: like its own, but a row leaves the batch at its eos.

    input_ids: (prompts, T), each prompt once. `prompt_of`: the prompt of each of the B rows. `on_end` is called with (row, new
    ids with eos, whether it ended) as soon as a row ends.
    """
    device, width = input_ids.device, input_ids.shape[1]
    steps = int(generation_config.max_new_tokens or 0)
    eos = torch.as_tensor(generation_config.eos_token_id, device=device).reshape(-1)
    mask: torch.Tensor | None = kwargs["attention_mask"]
    if mask is None:  # `generate` drops a mask that hides nothing
        mask = torch.ones_like(input_ids)
    expand = torch.tensor(prompt_of, device=device)
    rows = torch.arange(len(prompt_of), device=device)  # which answer each live row is
    # What the penalty counts: the prompt, its padding overwritten by its own last token, then the answer.
    seen = torch.empty(len(rows), width + steps, dtype=torch.long, device=device)
    seen[:, :width] = torch.where(mask.bool(), input_ids, input_ids[:, -1:])[expand]
    cache = kwargs["past_key_values"]
    new, positions = input_ids, (mask.cumsum(-1) - 1).clamp(min=0)
    for step in range(steps):
        logits = model(
            input_ids=new,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if step == 0:  # from here on one row per answer
            logits, mask, positions = logits[expand], mask[expand], positions[expand]
            cache.batch_select_indices(expand)
        token = knobs.choose(seen[rows, : width + step], logits.float(), step)
        seen[rows, width + step] = token
        ended = torch.isin(token, eos)
        stopped = torch.full_like(ended, step == steps - 1)
        if stop_loops and step % LOOP_CHECK_EVERY == LOOP_CHECK_EVERY - 1:
            answers = seen[rows, width : width + step + 1].tolist()
            stopped |= torch.tensor([_is_looping(answer) for answer in answers], device=device)
        gone = ended | stopped
        if gone.any():
            for row, by_itself in zip(rows[gone].tolist(), ended[gone].tolist(), strict=True):
                on_end(row, seen[row, width : width + step + 1].tolist(), by_itself)
            keep = (~gone).nonzero()[:, 0]
            if not len(keep):
                break
            cache.batch_select_indices(keep)
            knobs.keep(keep)
            rows, mask, positions, token = rows[keep], mask[keep], positions[keep], token[keep]
        new = token[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return input_ids


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
