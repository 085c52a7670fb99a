"""Batched decoding with transformers' `custom_generate`: like lengths together, each row with its own settings, finished rows
leave the batch (`generate` keeps them, so one loop makes all pay to the limit), a prompt is read once for all its answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from threading import Event, Thread
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from align_ko.chat_format import prompt_ids
from align_ko.errors import UserError
from align_ko.generation.requests import GREEDY, Generated, OnAnswer, Request, encode_prompts, row_seed
from align_ko.models.load import context_of, greedy_config
from align_ko.recipe import DecodingArgs
from align_ko.records import Message

LOOP_CHECK_EVERY = 16  # steps between looks for loops
OnTokens = Callable[[int, list[int], bool], None]  # called with a row's number, its new ids with eos, and whether it ended
HEAD = 256  # likeliest tokens that nearly always contain the nucleus


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
    messages: list[list[Message]] = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
    requests = [Request(prompt, decoding, row_seed(seed, index)) for index, prompt in enumerate(messages)]
    draw_local(requests, answers.__setitem__, model, tokenizer, max_new_tokens, batch_size, stop_loops)
    return [answers[index] for index in range(len(prompts))]


def draw_local(
    requests: list[Request],
    on_answer: OnAnswer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    batch_size: int,
    stop_loops: bool = False,
) -> None:
    """Answer every request with text; the rest as draw_tokens."""

    def decode(index: int, tokens: list[int], finished: bool) -> None:
        on_answer(index, decoded(tokenizer, tokens, finished))

    draw_tokens(requests, decode, model, tokenizer, max_new_tokens, batch_size, stop_loops)


def decoded(tokenizer: PreTrainedTokenizerBase, tokens: list[int], finished: bool) -> Generated:
    text = tokenizer.decode(tokens[:-1] if finished else tokens, skip_special_tokens=True)
    return Generated(str(text).strip(), finished, len(tokens))


@torch.inference_mode()
def draw_tokens(
    requests: list[Request],
    on_tokens: OnTokens,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    batch_size: int,
    stop_loops: bool = False,
) -> None:
    """Answer every request, longest prompts first (what does not fit into memory shows at once). `stop_loops` ends a row that
    only repeats itself, as unfinished: for candidates, never for evaluation. An answer depends on its own request alone, but
    for rounding, which decides between equally likely tokens. UserError for a prompt that fills the model's context."""
    encoded = encode_prompts(requests, tokenizer)
    order = sorted(range(len(requests)), key=lambda i: (-len(encoded[i]), encoded[i]))  # a prompt's requests are neighbours
    if order and (length := len(encoded[order[0]])) >= (context := context_of(model)):
        begin = requests[order[0]].prompt[-1]["content"][:40]
        problem = f"the prompt that begins {begin!r} has {length:,} tokens, more than the model's context leaves room for"
        raise UserError(problem, expected=f"fewer than {context:,}")
    config = greedy_config(tokenizer)
    config.max_new_tokens = max_new_tokens
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        distinct = {ids: number for number, ids in enumerate(dict.fromkeys(encoded[i] for i in batch))}
        width, pad = max(map(len, distinct)), int(tokenizer.pad_token_id or 0)
        ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in distinct], device=model.device)  # (prompts, T)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in distinct], device=model.device)
        knobs = RowKnobs([requests[i].decoding for i in batch], [requests[i].seed for i in batch], max_new_tokens, model.device)

        def on_end(row: int, tokens: list[int], finished: bool, batch: list[int] = batch) -> None:
            on_tokens(batch[row], tokens, finished)

        prompt_of = [distinct[encoded[i]] for i in batch]
        decode = partial(_decode_shrinking, knobs=knobs, prompt_of=prompt_of, on_end=on_end, stop_loops=stop_loops)
        model.generate(input_ids=ids, attention_mask=mask, generation_config=config, custom_generate=decode)


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
    on_end: OnTokens,
    stop_loops: bool = False,
    **kwargs: Any,
) -> torch.Tensor:
    """A `custom_generate` loop for `generate`: like its own, but a row leaves the batch at its eos.

    input_ids: (prompts, T), each prompt once. `prompt_of`: the prompt of each of the B rows. `on_end` is called as soon as a
    row ends.
    """
    device, width = input_ids.device, input_ids.shape[1]
    steps = int(generation_config.max_new_tokens or 0)
    eos = torch.as_tensor(generation_config.eos_token_id, device=device).reshape(-1)
    mask: torch.Tensor | None = kwargs["attention_mask"]
    mask = torch.ones_like(input_ids) if mask is None else mask  # `generate` drops a mask that hides nothing
    expand = torch.tensor(prompt_of, device=device)
    rows = torch.arange(len(prompt_of), device=device)  # which answer each live row is
    # What the penalty counts: the prompt, its padding overwritten by its own last token, then the answer.
    seen = torch.empty(len(rows), width + steps, dtype=torch.long, device=device)
    seen[:, :width] = torch.where(mask.bool(), input_ids, input_ids[:, -1:])[expand]
    cache = kwargs["past_key_values"]
    new, positions = input_ids, (mask.cumsum(-1) - 1).clamp(min=0)
    for step in range(steps):
        inputs = {"input_ids": new, "attention_mask": mask, "position_ids": positions, "past_key_values": cache}
        logits = model(**inputs, use_cache=True, logits_to_keep=1).logits[:, -1]
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
        if (gone := ended | stopped).any():
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


class RowKnobs:
    """Decoding settings of B rows, and a random number in [0, 1) for each of their tokens. transformers' processors share one
    setting and one generator in a batch, so an answer would depend on its neighbours; here on its seed alone."""

    def __init__(
        self, decodings: list[DecodingArgs], seeds: list[int], max_new_tokens: int, device: torch.device | str = "cpu"
    ) -> None:
        def column(name: str) -> torch.Tensor:
            return torch.tensor([float(getattr(d, name)) for d in decodings], device=device)

        self.temperature, self.top_p, self.penalty = map(column, ("temperature", "top_p", "repetition_penalty"))
        # Drawn on the CPU whatever the device is, so that the same seed gives the same numbers everywhere.
        numbers = [torch.rand(max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.uniform = torch.stack(numbers).to(device)

    def keep(self, rows: torch.Tensor) -> None:
        self.temperature, self.top_p = self.temperature[rows], self.top_p[rows]
        self.penalty, self.uniform = self.penalty[rows], self.uniform[rows]

    def choose(self, seen: torch.Tensor, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Token number `step` of each row. seen: ids (B, L) that the penalty counts; logits (B, V), changed in place → (B,)."""
        if (self.penalty != 1).any():
            penalise(logits, seen, self.penalty)
        token = logits.argmax(-1)
        sampled = self.temperature.nonzero()[:, 0]
        if len(sampled):
            probabilities = (logits[sampled] / self.temperature[sampled, None]).softmax(-1)
            token[sampled] = nucleus(probabilities, self.top_p[sampled], self.uniform[sampled, step])
        return token


def penalise(logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor) -> None:
    """transformers' repetition penalty, in place: a token seen before has its logit divided by it, or times it below 0."""
    scores, factor = logits.gather(1, seen), penalty[:, None]
    logits.scatter_(1, seen, torch.where(scores < 0, scores * factor, scores / factor))


def nucleus(probabilities: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor, head: int = HEAD) -> torch.Tensor:
    """One token per row from the smallest set that has `top_p` of the probability; (B, V), (B,), (B,) → (B,). As transformers'
    top_p, but only rows are sorted whole whose set is not within the `head` likeliest tokens."""
    likeliest, ids = probabilities.topk(min(head, probabilities.shape[-1]))
    token = _pick(likeliest, ids, top_p, uniform)
    wide = (likeliest.sum(-1) < top_p).nonzero()[:, 0]
    if len(wide):
        everything, order = probabilities[wide].sort(descending=True)
        token[wide] = _pick(everything, order, top_p[wide], uniform[wide])
    return token


def _pick(likeliest: torch.Tensor, ids: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Walk down the tokens, likeliest first, until `uniform` of the set's probability is passed."""
    inside = likeliest.cumsum(-1) - likeliest < top_p[:, None]
    mass = (likeliest * inside).cumsum(-1)
    place = (mass <= uniform[:, None] * mass[:, -1:]).sum(-1)
    return ids.gather(-1, place.clamp(max=inside.sum(-1) - 1)[:, None])[:, 0]


def stream_answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    max_new_tokens: int = 512,
    stopped: Event | None = None,
) -> Generator[str, None, bool]:
    """Pieces of what plain `model.generate(**inputs)` gives, as they come; returns whether the model itself ended the answer.
    After `stopped.set()` it ends with the next token; after Ctrl-C or `close()` no thread goes on.

    UserError where the conversation leaves no room for an answer in the model's context."""
    from transformers import StoppingCriteriaList, TextIteratorStreamer

    tokens = prompt_ids(tokenizer, messages)
    if len(tokens) >= (longest := context_of(model)):
        problem = f"the conversation has {len(tokens):,} tokens, and this model reads {longest:,}"
        raise UserError(problem, expected="a shorter question, or a new conversation")
    ids = torch.tensor([tokens], device=model.device)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    failure: list[BaseException] = []
    ended: list[bool] = []
    left = Event()

    def stop(rows: torch.Tensor, *scores: object) -> torch.Tensor:
        is_over = left.is_set() or (stopped is not None and stopped.is_set())
        return torch.full((len(rows),), is_over, device=rows.device)

    def run() -> None:
        try:
            mask = torch.ones_like(ids)
            criteria = StoppingCriteriaList([stop])
            room = min(max_new_tokens, longest - len(tokens))
            options = {"streamer": streamer, "max_new_tokens": room, "stopping_criteria": criteria}
            output = model.generate(input_ids=ids, attention_mask=mask, **options)
            if (eos := model.generation_config.eos_token_id) is not None:
                ended.append(bool(torch.isin(output[0, -1], torch.as_tensor(eos, device=output.device))))
        except BaseException as error:  # in a thread: hand it over, or the reader would wait for ever
            failure.append(error)
            streamer.on_finalized_text("", stream_end=True)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield from streamer
    finally:
        left.set()
        thread.join()
    if failure:
        raise failure[0]
    return any(ended)
