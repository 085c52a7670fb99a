"""Answers are drawn once per checkpoint and setting; the reference loss is that of the references alone; the Modelfile fits."""

import math
from typing import ClassVar

import pytest
import torch

from align_ko.chat_format import set_chat_template
from align_ko.errors import UserError
from align_ko.evaluation import answers as answers_module
from align_ko.evaluation.answers import Question, answer_all, load_questions
from align_ko.evaluation.reference_loss import reference_nll
from align_ko.export import modelfile
from align_ko.generation.local import GREEDY, Generated
from align_ko.recipe import GenerationArgs
from align_ko.records import write_jsonl


class Tokenizer:
    """One id per character, with the members that chat_format asks for."""

    chat_template = "x"
    added_tokens_decoder: ClassVar = {1: "$"}
    eos_token, eos_token_id, pad_token_id, bos_token_id = "$", 1, 0, None

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        said = "".join(f"[{m['role'][0]}]{m['content']}" + ("$" if m["role"] == "assistant" else "") for m in messages)
        return said + ("[a]" if add_generation_prompt else "")

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [1 if c == "$" else 2 + ord(c) % 50 for c in text]}


class Uniform:
    """Every token equally likely, over 64."""

    device = torch.device("cpu")

    def __call__(self, input_ids, attention_mask):
        return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 64)})


def test_reference_loss_of_a_uniform_model_is_log_of_the_vocabulary():
    prompt = [{"role": "user", "content": "a"}]
    questions = [
        Question(prompt, "1", "", "", "bcd"),
        Question(prompt, "2", "", "", "efghij"),
        Question(prompt, "3", "", "", None),
    ]
    assert reference_nll(Uniform(), Tokenizer(), questions) == pytest.approx(math.log(64), abs=1e-5)
    assert reference_nll(Uniform(), Tokenizer(), questions[2:]) is None


def test_answers_are_reused_only_for_the_same_checkpoint(tmp_path, monkeypatch):
    drawn = []

    def generate(model, tokenizer, prompts, *rest):
        drawn.append(len(prompts))
        return [Generated("네.", True, 3) for _ in prompts]

    monkeypatch.setattr(answers_module, "generate_answers", generate)
    questions = [Question([{"role": "user", "content": "안녕"}], "1", "probe", "", None)]

    def call(checkpoint):
        return answer_all(None, None, questions, "m", "greedy", GREEDY, GenerationArgs(), tmp_path / "a.jsonl", checkpoint)

    first = call("weights-1")
    assert first == call("weights-1") and drawn == [1]
    assert first[0]["kind"] == "probe" and first[0]["response"] == "네."
    call("weights-2")
    assert drawn == [1, 1]


def test_a_prompt_file_without_messages_is_named_with_its_line(tmp_path):
    file = tmp_path / "프롬프트.jsonl"
    write_jsonl(file, [{"messages": [{"role": "user", "content": "안녕"}]}, {"text": "?"}])
    with pytest.raises(UserError, match=r"프롬프트\.jsonl:2: row has no messages"):
        load_questions(str(file))
    assert [question.prompt[0]["content"] for question in load_questions(str(file), 1)] == ["안녕"]  # no further than asked


def test_the_modelfile_is_greedy_and_only_for_our_template():
    tokenizer = Tokenizer()
    assert modelfile(tokenizer) is None
    set_chat_template(tokenizer)
    text = modelfile(tokenizer)
    assert "PARAMETER temperature 0\n" in text and "PARAMETER repeat_penalty 1.0\n" in text
    assert "{{ .Content }}$" in text and text.index("### User:") < text.index("### Assistant:")
