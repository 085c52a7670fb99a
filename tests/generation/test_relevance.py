"""Pointwise mutual information of answer and question: by hand, whatever the batch, and stored."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from conftest import MULTI_TURN, SHORT_ROWS

from align_ko.chat_format import answer_ids, prompt_ids
from align_ko.generation import relevance as module
from align_ko.generation.relevance import LEAST, TOKENS, is_relevant, relevance, stored_relevance, why_unrelated
from align_ko.recipe import GenerationArgs

FLOAT = GenerationArgs(dtype="float32")
EMPTY = [{"role": "user", "content": ""}]


def asked(text):
    return [{"role": "user", "content": text}]


QUESTIONS = [(asked(question), answer) for question, answer in SHORT_ROWS] + [(MULTI_TURN[:-1], MULTI_TURN[-1]["content"])]


class Knowing:
    """64 tokens beside `said`, all equally likely; where `key` was read, `said` is as likely as those 64 together."""

    device = torch.device("cpu")

    def __init__(self, tokenizer, key, said, context=10**6):
        self.size, self.key, self.said = len(tokenizer), key, said
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=context))

    def __call__(self, input_ids, attention_mask):
        logits = torch.zeros(*input_ids.shape, self.size)
        known = (input_ids == self.key).cumsum(-1) > 0
        logits[..., self.said] = torch.where(known, math.log(self.size - 1), 0.0)
        return SimpleNamespace(logits=logits)


def test_the_value_of_a_model_that_can_be_worked_out_by_hand(tiny):
    tokenizer = tiny.tokenizer()
    prompt, answer = asked("제주도"), "서울입니다."
    key = next(token for token in prompt_ids(tokenizer, prompt) if token not in prompt_ids(tokenizer, EMPTY))
    said = answer_ids(tokenizer, prompt, answer, finished=False)
    assert len(set(said)) == len(said) > 1 and key not in said
    size = len(tokenizer)
    # the first token is as likely as all others together: 1/2 where it was 1/size; the others lose half
    by_hand = (math.log(size / 2) + (len(said) - 1) * math.log(1 / 2 * size / (size - 1))) / len(said)
    model = Knowing(tokenizer, key, said[0])
    assert relevance(model, tokenizer, [(prompt, answer), (EMPTY, answer), (prompt, " ")]) == [
        pytest.approx(by_hand, abs=1e-5), 0.0, 0.0,
    ]  # fmt: skip


def log_probability(model, before, said):
    """Token by token, each read alone."""
    total = 0.0
    for place, token in enumerate(said):
        logits = model(input_ids=torch.tensor([[*before, *said[:place]]])).logits[0, -1].float()
        total += torch.log_softmax(logits, -1)[token].item()
    return total


def test_batches_and_padding_change_nothing(tiny):
    model, tokenizer = tiny.model(), tiny.tokenizer()
    alone = relevance(model, tokenizer, QUESTIONS, batch_size=1)
    assert relevance(model, tokenizer, QUESTIONS, batch_size=8) == pytest.approx(alone, abs=1e-4)
    assert relevance(model, tokenizer, QUESTIONS[::-1], batch_size=8)[::-1] == pytest.approx(alone, abs=1e-4)
    for (prompt, answer), value in zip(QUESTIONS, alone, strict=True):
        said = answer_ids(tokenizer, prompt, answer)[:-1]  # as in training, without eos
        found = log_probability(model, prompt_ids(tokenizer, prompt), said)
        found -= log_probability(model, prompt_ids(tokenizer, EMPTY), said)
        assert value == pytest.approx(found / len(said), abs=1e-4)


def test_what_lies_past_the_limit_or_the_context_is_not_read(llama):
    tokenizer = llama.tokenizer()
    prompt, answer = asked("제주도"), "서울입니다. " * 50
    key = next(token for token in prompt_ids(tokenizer, prompt) if token not in prompt_ids(tokenizer, EMPTY))
    said = answer_ids(tokenizer, prompt, answer, finished=False)
    start, last = len(prompt_ids(tokenizer, prompt)), next(t for t in reversed(said) if t not in said[:2])
    assert len(said) > TOKENS
    whole, cut, one, none = (
        relevance(Knowing(tokenizer, key, last, context), tokenizer, [(prompt, answer), (prompt, "")])
        for context in (10**6, start + TOKENS, start + 2, start)
    )
    assert whole == cut and whole[1] == 0.0
    size = len(tokenizer)
    assert one[0] == pytest.approx(math.log(1 / 2 * size / (size - 1)), abs=1e-5)  # its first two tokens, `last` not among them
    assert none == [None, None]


def test_an_empty_answer_and_one_that_cannot_be_read_belong_to_nothing():
    assert [is_relevant(value) for value in (None, 0.0, LEAST, 1.0)] == [False, False, True, True]


def test_values_are_stored_under_all_that_they_depend_on(llama, tmp_path, monkeypatch, capsys):
    loaded = []
    load = module.load_for_inference
    monkeypatch.setattr(module, "load_for_inference", lambda *args, **options: loaded.append(args) or load(*args, **options))
    folder, file = str(llama.folder), tmp_path / "kept" / "relevance.jsonl"
    values = stored_relevance([*QUESTIONS, QUESTIONS[0]], folder, file, FLOAT)
    assert values == pytest.approx([*relevance(llama.model(), llama.tokenizer(), QUESTIONS), values[0]], abs=1e-4)
    assert len(file.read_text().splitlines()) == len(QUESTIONS) and len(loaded) == 1
    assert "9 of 9 answers read beside their questions in " in capsys.readouterr().out
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]) + lines[-1][:20])  # killed while it wrote the last one
    assert stored_relevance(QUESTIONS, folder, file, FLOAT) == pytest.approx(values[:-1], abs=1e-4) and len(loaded) == 2
    assert stored_relevance(QUESTIONS, folder, file, FLOAT) == stored_relevance(QUESTIONS, folder, file, FLOAT)
    assert len(loaded) == 2
    stored_relevance([(asked("다른 질문"), "서울입니다.")], folder, file, FLOAT)
    stored_relevance(QUESTIONS, folder, file, GenerationArgs(dtype="bfloat16"))
    assert len(loaded) == 4


def test_curation_keeps_what_cannot_be_told(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "stored_relevance", lambda *args: [None, 0.04, 0.05])
    assert why_unrelated(QUESTIONS[:3], "model", tmp_path) == [
        "",
        "0.04 nats a token by its question, at least 0.05 wanted",
        "",
    ]
