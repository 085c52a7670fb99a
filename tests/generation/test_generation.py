"""Batched decoding gives what plain `model.generate` gives for each prompt alone."""

from __future__ import annotations

import threading

import pytest
import torch
from conftest import SHORT_ROWS
from transformers import RepetitionPenaltyLogitsProcessor, TopPLogitsWarper

from align_ko.chat_format import prompt_ids
from align_ko.errors import UserError
from align_ko.generation.local import RowKnobs, draw_local, generate_answers, nucleus, penalise, stream_answer
from align_ko.generation.requests import GREEDY, Request, describe, row_seed
from align_ko.models.load import greedy_config
from align_ko.recipe import DecodingArgs

LENGTHS = [1, 30, 3, 12, 0, 20, 7]  # words of a filler, so that the prompts differ in length
PROMPTS = [[{"role": "user", "content": f"{n} " + "서울에는 한강이 " * length}] for n, length in enumerate(LENGTHS)]
SAMPLED = DecodingArgs(temperature=1.0, top_p=0.9, repetition_penalty=1.1)


@pytest.fixture(params=["llama", "gemma"])
def ready(request):
    """A random model that says eos in about one of ten tokens: some rows end early, one never."""
    tiny = request.getfixturevalue(request.param)
    model, tokenizer = tiny.model(), tiny.tokenizer()
    model.generation_config = greedy_config(tokenizer)
    head = model.get_output_embeddings()
    generator = torch.Generator().manual_seed(5)  # a head of its own: tied to the input, Gemma only repeats the last token
    head.weight = torch.nn.Parameter(torch.randn(head.weight.shape, generator=generator) * 0.2)
    head.weight.data[tokenizer.eos_token_id] *= 2.2
    return model, tokenizer


def one_by_one(model, tokenizer, new=24, **options):
    """(ids of the answer without eos, whether it ended) of each prompt from plain generate."""
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt_ids(tokenizer, prompt)])
        output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, **options)
        tokens = output[0, ids.shape[1] :].tolist()
        answers.append((tokens[:-1] if tokens[-1] == tokenizer.eos_token_id else tokens, tokens[-1] == tokenizer.eos_token_id))
    return answers


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_batches_equal_one_by_one(ready, batch_size):
    model, tokenizer = ready
    expected = one_by_one(model, tokenizer)
    ended = [len(tokens) for tokens, finished in expected if finished]
    assert 2 <= len(ended) < len(PROMPTS) and len(set(ended)) > 1  # the test means something: rows leave at several times
    answers = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=24, batch_size=batch_size)
    texts = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens, _ in expected]
    # the limit may cut a character between its tokens: what is left of it is no fault of the answer and is dropped
    whole = [text if finished else text.rstrip("\ufffd") for text, (_, finished) in zip(texts, expected, strict=True)]
    assert [answer.text for answer in answers] == whole
    assert [answer.finished for answer in answers] == [finished for _, finished in expected]
    assert [answer.tokens for answer in answers] == [len(tokens) + finished for tokens, finished in expected]
    assert all(answer.tokens == 24 for answer in answers if not answer.finished)


def test_a_penalty_in_a_shrinking_batch_counts_only_a_rows_own_tokens(ready):
    model, tokenizer = ready
    expected = one_by_one(model, tokenizer, repetition_penalty=1.3, do_sample=False)
    assert len({len(tokens) for tokens, finished in expected if finished}) > 1
    answers = generate_answers(
        model, tokenizer, PROMPTS, DecodingArgs(repetition_penalty=1.3), max_new_tokens=24, batch_size=32
    )
    same = [
        answer.text == tokenizer.decode(tokens, skip_special_tokens=True).strip()
        for answer, (tokens, _) in zip(answers, expected, strict=True)
    ]
    assert all(same), same
    assert [answer.text for answer in answers] != [a.text for a in generate_answers(model, tokenizer, PROMPTS, GREEDY, 24)]


def test_sampling_belongs_to_its_seed(ready):
    model, tokenizer = ready

    def draw(seed):
        return generate_answers(model, tokenizer, PROMPTS, SAMPLED, max_new_tokens=24, batch_size=4, seed=seed)

    first = draw(1)
    assert first == draw(1) and first != draw(2)
    assert 1 <= sum(answer.finished for answer in first) < len(PROMPTS)


@pytest.mark.parametrize("head", [3, 256])
@pytest.mark.parametrize("top_p", [0.8, 1.0])
def test_the_nucleus_is_that_of_transformers(head, top_p):
    scores = torch.randn(4, 40, generator=torch.Generator().manual_seed(3)) * torch.tensor([[0.5], [1], [2], [8]])
    warped = scores.clone() if top_p == 1 else TopPLogitsWarper(top_p)(None, scores.clone())
    expected = warped.softmax(-1)
    count = 4000
    evenly = (torch.arange(count) + 0.5) / count  # every part of [0, 1) equally often: shares come out exactly
    many = scores.softmax(-1).repeat_interleave(count, 0)
    drawn = nucleus(many, torch.full((4 * count,), top_p), evenly.repeat(4), head).reshape(4, count).T
    shares = torch.nn.functional.one_hot(drawn, 40).double().mean(0)
    assert (shares - expected).abs().max() <= 1.01 / count
    assert (nucleus(scores.softmax(-1), torch.full((4,), 1e-9), torch.full((4,), 0.999), head) == scores.argmax(-1)).all()


def test_the_penalty_is_that_of_transformers():
    scores = torch.randn(3, 40, generator=torch.Generator().manual_seed(4)) * 3
    said = torch.tensor([[5, 7, 5], [0, 1, 2], [39, 39, 39]])
    expected = torch.stack([RepetitionPenaltyLogitsProcessor(p)(said[i : i + 1], scores[i : i + 1].clone())[0]
                            for i, p in enumerate((1.0, 1.3, 0.7))])  # fmt: skip
    penalise(scores, said, torch.tensor([1.0, 1.3, 0.7]))
    assert torch.equal(scores, expected)


def test_rows_of_one_batch_have_settings_of_their_own():
    decodings = [GREEDY, DecodingArgs(repetition_penalty=9.0), DecodingArgs(temperature=1.0, top_p=1.0)]
    knobs = RowKnobs(decodings, [1, 2, 3], 2000)
    logits = torch.tensor([[2.0, 1.0, 0.5]] * 3)
    said = torch.tensor([[0], [0], [1]])
    drawn = torch.stack([knobs.choose(said, logits.clone(), step) for step in range(2000)])
    assert (drawn[:, 0] == 0).all() and (drawn[:, 1] == 1).all()  # 2.0 / 9 is below 1.0
    shares = torch.bincount(drawn[:, 2], minlength=3) / 2000
    assert (shares - torch.tensor([2.0, 1.0, 0.5]).softmax(-1)).abs().max() < 0.04
    knobs.keep(torch.tensor([2]))
    assert torch.equal(knobs.choose(said[:1], logits[:1].clone(), 7), drawn[7, 2:])


def ladder():
    """Greedy, greedy with a penalty, and two samples under one setting, for every prompt."""
    settings = [(GREEDY, 0), (DecodingArgs(repetition_penalty=1.3), 0), (SAMPLED, 0), (SAMPLED, 1)]
    return [Request(p, d, row_seed(9, n, k)) for n, p in enumerate(PROMPTS) for d, k in settings]


def draw(model, tokenizer, requests, batch_size):
    drawn = {}
    draw_local(requests, lambda at, answer: drawn.update({at: answer}), model, tokenizer, 24, batch_size)
    return [drawn[at] for at in range(len(requests))]


def test_an_answer_does_not_hang_on_its_batch(ready):
    model, tokenizer = ready
    model.double()  # rounding, which differs with the batch, decides nothing
    requests = ladder()
    together = draw(model, tokenizer, requests, 64)
    assert together == draw(model, tokenizer, requests, 5) == draw(model, tokenizer, requests[::-1], 1)[::-1]
    assert together[::4] == generate_answers(model, tokenizer, PROMPTS, max_new_tokens=24)
    assert together[1::4] == generate_answers(model, tokenizer, PROMPTS, DecodingArgs(repetition_penalty=1.3), 24)
    assert sum(a != b for a, b in zip(together[2::4], together[3::4], strict=True)) >= 5  # two samples are two answers


def test_each_prompt_is_read_once_for_all_its_answers(ready):
    model, tokenizer = ready
    rows = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    draw(model, tokenizer, ladder(), 64)
    hook.remove()
    assert rows[0][0] == len(PROMPTS) and rows[1][0] > 2 * len(PROMPTS) and all(width == 1 for _, width in rows[1:])


def test_a_loop_is_stopped_only_when_asked(gemma):
    model, tokenizer = gemma.model(), gemma.tokenizer()
    head = torch.nn.Linear(64, len(tokenizer))
    head.bias.data[tokenizer("서울").input_ids[-1]] = 1000.0  # one token for ever
    model.set_output_embeddings(head)
    [whole] = generate_answers(model, tokenizer, PROMPTS[:1], max_new_tokens=100)
    [stopped] = generate_answers(model, tokenizer, PROMPTS[:1], max_new_tokens=100, stop_loops=True)
    assert (whole.finished, whole.tokens, stopped.finished) == (False, 100, False)
    assert whole.text.startswith(stopped.text * 2) and len(stopped.text) * 100 == len(whole.text) * stopped.tokens


def test_a_row_that_ended_is_no_longer_computed(ready):
    model, tokenizer = ready
    rows = []
    hook = model.register_forward_pre_hook(lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True)
    answers = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=24, batch_size=32)
    hook.remove()
    alive = [sum(answer.tokens > step for answer in answers) for step in range(24)]
    assert rows == alive and rows[-1] < rows[0] == len(PROMPTS)


def test_an_answer_is_told_as_soon_as_it_ends(ready):
    model, tokenizer = ready
    told, steps = [], []
    hook = model.register_forward_hook(lambda *call: steps.append(1))
    requests = [Request(prompt, GREEDY, 0) for prompt in PROMPTS]
    draw_local(requests, lambda at, answer: told.append((at, answer, len(steps))), model, tokenizer, 24, 32)
    hook.remove()
    assert sorted(at for at, _, _ in told) == list(range(len(PROMPTS)))
    assert all(step == answer.tokens for _, answer, step in told)
    assert generate_answers(model, tokenizer, []) == []


def test_the_longest_prompts_come_first(ready):
    model, tokenizer = ready
    told = []
    draw_local([Request(prompt, GREEDY, 0) for prompt in PROMPTS], lambda at, _: told.append(at), model, tokenizer, 3, 1)
    assert told == sorted(range(len(PROMPTS)), key=lambda n: -LENGTHS[n])


def test_a_stream_is_the_plain_answer(ready):
    model, tokenizer = ready
    ends = []
    for prompt, (tokens, ended) in zip(PROMPTS, one_by_one(model, tokenizer), strict=True):
        pieces: list[str] = []

        def follow(pieces=pieces, prompt=prompt):
            ends.append((yield from stream_answer(model, tokenizer, prompt, 24)))

        pieces.extend(follow())
        assert "".join(pieces) == tokenizer.decode(tokens, skip_special_tokens=True)
        assert ends[-1] == ended
    assert set(ends) == {True, False}


def test_a_stream_ends_where_the_context_does(ready):
    model, tokenizer = ready
    model.config.max_position_embeddings = 2048
    with pytest.raises(UserError, match=r"the conversation has [\d,]+ tokens, and this model reads 2,048; expected a shorter"):
        next(stream_answer(model, tokenizer, [{"role": "user", "content": "가나다라 " * 20_000}]))
    model.config.max_position_embeddings = len(prompt_ids(tokenizer, PROMPTS[0])) + 2
    model.generation_config.eos_token_id = None
    assert 1 <= len([piece for piece in stream_answer(model, tokenizer, PROMPTS[0], 500)]) <= 4


def test_a_failure_while_streaming_is_heard(ready, monkeypatch):
    model, tokenizer = ready

    def broken(**kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(stream_answer(model, tokenizer, PROMPTS[0], 4))


def test_generation_ends_with_the_stream(ready, monkeypatch):
    model, tokenizer = ready
    monkeypatch.setattr(model.generation_config, "eos_token_id", None)  # it would go on
    before = threading.active_count()
    pieces = stream_answer(model, tokenizer, PROMPTS[0], 100_000)
    next(pieces)
    assert threading.active_count() == before + 1
    pieces.close()  # what Ctrl-C does
    assert threading.active_count() == before


# Settings ---------------------------------------------------------------------------------------------------------------


def test_a_seed_belongs_to_its_values():
    seeds = {row_seed(42, f"t{n}", name, k) for n in range(50) for name in ("cool", "warm") for k in range(3)}
    assert len(seeds) == 300 and all(0 <= seed < 2**31 for seed in seeds)
    assert row_seed(42, "t1", "cool", 0) == row_seed(42, "t1", "cool", 0) == 967833375
    assert row_seed(1, "23") != row_seed(12, "3")


@pytest.mark.parametrize(
    ("decoding", "words"),
    [
        (GREEDY, "greedy"),
        (DecodingArgs(repetition_penalty=1.2), "greedy repetition_penalty=1.2"),
        (DecodingArgs(0.7, 0.9, 1.1), "temperature=0.7 top_p=0.9 repetition_penalty=1.1"),
    ],
)
def test_settings_in_words(decoding, words):
    assert describe(decoding) == words


def test_the_fixture_prompts_differ(llama):
    tokenizer = llama.tokenizer()
    assert len({len(prompt_ids(tokenizer, prompt)) for prompt in PROMPTS}) == len(PROMPTS)
    assert len(SHORT_ROWS) == 8
