"""Batched decoding gives what plain `model.generate` gives for each prompt alone."""

from __future__ import annotations

import pytest
import torch
from conftest import SHORT_ROWS
from transformers import TopPLogitsWarper

from align_ko.chat_format import prompt_ids
from align_ko.generation.local import GREEDY, _sample, describe, generate_answers, generation_config, stream_answer
from align_ko.modeling import greedy_config
from align_ko.recipe import DecodingArgs

LENGTHS = [1, 30, 3, 12, 0, 20, 7]  # words of a filler, so that the prompts differ in length
PROMPTS = [[{"role": "user", "content": f"{n} " + "서울에는 한강이 " * length}] for n, length in enumerate(LENGTHS)]
SAMPLED = DecodingArgs(temperature=1.0, top_p=0.9, repetition_penalty=1.1)


@pytest.fixture(params=["llama", "gemma"])
def ready(request):
    """A random model that says eos in about one of ten tokens: some rows end early, one never."""
    tiny = request.getfixturevalue(request.param)
    model, tokenizer = tiny.model(), tiny.tokenizer()
    model.generation_config = greedy_config(model, tokenizer)
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
    assert [answer.text for answer in answers] == [
        tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens, _ in expected
    ]
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
def test_the_nucleus_is_that_of_transformers(head):
    scores = torch.randn(4, 40, generator=torch.Generator().manual_seed(3)) * torch.tensor([[0.5], [1], [2], [8]])
    expected = TopPLogitsWarper(0.8)(None, scores.clone()).softmax(-1)
    torch.manual_seed(0)
    drawn = torch.stack([torch.nn.functional.one_hot(_sample(scores, 0.8, head), 40) for _ in range(3000)]).double().mean(0)
    assert torch.equal((drawn > 0), (expected > 0) & (drawn > 0)) and (drawn - expected).abs().max() < 0.03
    assert (drawn.gt(0).sum(-1) < 40).all() and (_sample(scores, 1e-9, head) == scores.argmax(-1)).all()


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


def test_batches_are_told_as_they_end_longest_first(ready):
    model, tokenizer = ready
    told = []
    answers = generate_answers(
        model, tokenizer, PROMPTS, max_new_tokens=3, batch_size=4, on_batch=lambda at, found: told.append((at, found))
    )
    order = sorted(range(len(PROMPTS)), key=lambda n: -LENGTHS[n])
    assert [n for at, _ in told for n in at] == order and [len(at) for at, _ in told] == [4, 3]
    assert all(answers[n] == answer for at, found in told for n, answer in zip(at, found, strict=True))
    assert generate_answers(model, tokenizer, []) == []


def test_a_stream_is_the_plain_answer(ready):
    model, tokenizer = ready
    for prompt, (tokens, _) in zip(PROMPTS[:4], one_by_one(model, tokenizer), strict=False):
        pieces = list(stream_answer(model, tokenizer, prompt, 24))
        assert "".join(pieces) == tokenizer.decode(tokens, skip_special_tokens=True)


def test_a_failure_while_streaming_is_heard(ready, monkeypatch):
    model, tokenizer = ready

    def broken(**kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(stream_answer(model, tokenizer, PROMPTS[0], 4))


# Settings ---------------------------------------------------------------------------------------------------------------


def test_greedy_has_no_knobs(llama):
    config = generation_config(GREEDY, 12, llama.tokenizer())
    assert (config.do_sample, config.max_new_tokens, config.eos_token_id) == (False, 12, 2)
    assert (config.temperature, config.top_p, config.top_k, config.repetition_penalty) == (None,) * 4
    sampled = generation_config(SAMPLED, 12, llama.tokenizer())
    assert (sampled.do_sample, sampled.temperature, sampled.top_p, sampled.top_k) == (True, 1.0, 1.0, 0)  # _sample does top_p
    assert sampled.repetition_penalty == 1.1


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
