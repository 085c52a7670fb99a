"""Answers are drawn once per checkpoint and setting, by any number of processes; the loss is that of the references alone."""

import math
from typing import ClassVar

import pytest
import torch

from align_ko.chat_format import set_chat_template
from align_ko.errors import UserError
from align_ko.evaluation import answers as answers_module
from align_ko.evaluation import asking
from align_ko.evaluation.answers import Answers
from align_ko.evaluation.asking import ask_models
from align_ko.evaluation.reference_loss import reference_nats
from align_ko.generation.processes import Processes
from align_ko.generation.requests import GREEDY, Generated, row_seed
from align_ko.generation.shards import shards
from align_ko.models.export import modelfile
from align_ko.recipe import DecodingArgs, GenerationArgs
from align_ko.records import PromptRow


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
        PromptRow("1", prompt, "bcd", ""),
        PromptRow("2", prompt, "efghij", ""),
        PromptRow("3", prompt, None, ""),
    ]
    nats, tokens = reference_nats(Uniform(), Tokenizer(), questions)
    assert tokens == 3 + 1 + 6 + 1 and nats == pytest.approx(11 * math.log(64), abs=1e-4)
    assert reference_nats(Uniform(), Tokenizer(), questions[2:]) == (0, 0)


@pytest.fixture
def drawn(monkeypatch):
    """What draw_local was asked, each answer being its prompt and its seed; stops after `drawn.most` answers of a call."""

    class Drawn(list):
        most = 10**6

    asked = Drawn()

    def draw(requests, on_answer, model, tokenizer, max_new_tokens, batch_size):
        for index in reversed(range(len(requests))):  # answers end in any order
            if len(requests) - index > asked.most:
                raise KeyboardInterrupt
            request = requests[index]
            asked.append(request.prompt[0]["content"])
            on_answer(index, Generated(f"{request.prompt[0]['content']}\u2028{request.seed}", True, 3))

    monkeypatch.setattr(answers_module, "draw_local", draw)
    return asked


QUESTIONS = [PromptRow(f"id-{n % 4}", [{"role": "user", "content": f"{n}번"}], None, "probe" * (n == 4)) for n in range(5)]
TEXTS = [f"{n}번\u2028{row_seed(42, n)}" for n in range(5)]


def answers(folder, checkpoint="weights-1", decoding=GREEDY):
    return Answers("m", "greedy", decoding, QUESTIONS, GenerationArgs(), folder / "m" / "greedy.jsonl", checkpoint)


def load():
    return None, None


def test_answers_are_reused_only_for_the_same_checkpoint(tmp_path, drawn, capsys):
    first = answers(tmp_path)
    first.draw(load)
    assert [row["response"] for row in first.rows()] == TEXTS
    assert [row["kind"] for row in first.rows()] == ["heldout"] * 4 + ["probe"]
    capsys.readouterr()
    answers(tmp_path).draw(load=None)  # no model is loaded for what is there
    assert len(drawn) == 5 and capsys.readouterr().out == "m: 5 answers, greedy, 5 of them there already\n"
    for other in (answers(tmp_path, "weights-2"), answers(tmp_path, decoding=DecodingArgs(repetition_penalty=1.1))):
        with pytest.raises(UserError, match="5 of 5 answers are not there"):
            other.rows()
        other.draw(load)
        assert len(other.rows()) == 5
    assert len(drawn) == 15


def test_interrupted_only_what_is_missing_is_drawn(tmp_path, drawn):
    drawn.most = 2
    with pytest.raises(KeyboardInterrupt):
        answers(tmp_path).draw(load)
    [file] = shards(tmp_path / "m" / "greedy.jsonl")
    with file.open("ab") as out:
        out.write(b'{"number": 0, "respo')  # killed while it wrote
    drawn.most = 10
    answers(tmp_path).draw(load)
    assert drawn == ["4번", "3번", "2번", "1번", "0번"]
    assert [row["response"] for row in answers(tmp_path).rows()] == TEXTS  # with the seeds of an uninterrupted run


def test_several_processes_share_the_questions(tmp_path, drawn):
    answers(tmp_path).draw(load, Processes(1, 3))
    assert drawn == ["4번", "1번"]
    answers(tmp_path).draw(load, Processes(0, 2))  # begun again with fewer: what lies there counts
    assert drawn[2:] == ["2번", "0번"]
    with pytest.raises(UserError, match=r"1 of 5 answers are not there; expected an output_dir that all processes share"):
        answers(tmp_path).rows()
    answers(tmp_path).draw(load)
    assert drawn[4:] == ["3번"]
    assert [row["response"] for row in answers(tmp_path).rows()] == TEXTS
    assert [path.name for path in shards(tmp_path / "m" / "greedy.jsonl")] == ["greedy.jsonl", "greedy.rank-1.jsonl"]


def test_the_first_process_gets_everything_once_the_others_are_done(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(asking, "load_for_inference", lambda path, dtype, template: (Uniform(), Tokenizer()))
    monkeypatch.setattr(asking, "weights_hash", lambda path: path)
    references = [PromptRow(q.id, q.prompt, "가나다" * n, "") for n, q in enumerate(QUESTIONS)]
    asked = {"greedy": (GREEDY, QUESTIONS), "r1.1": (DecodingArgs(repetition_penalty=1.1), QUESTIONS[:2]), "r1": (GREEDY, [])}

    def ask(folder, rank, count, wait=lambda: None):
        processes = Processes(rank, count, wait)
        return ask_models({"a": "x", "a-greedy": "y"}, asked, references, GenerationArgs(), "default", folder, processes)

    whole, losses = ask(tmp_path / "one", 0, 1)
    assert [(row["model"], row["setting"], row["response"]) for row in whole] == [
        (name, setting, text)
        for name in ("a", "a-greedy")
        for setting, texts in (("greedy", TEXTS), ("r1.1", TEXTS[:2]))
        for text in texts
    ]
    assert losses == {name: pytest.approx(math.log(64), abs=1e-5) for name in ("a", "a-greedy")}

    def others():
        assert ask(tmp_path / "three", 1, 3) == ask(tmp_path / "three", 2, 3) == ([], {})

    assert ask(tmp_path / "three", 0, 3, wait=others) == (whole, losses)


def test_the_modelfile_is_greedy_and_only_for_our_template():
    tokenizer = Tokenizer()
    assert modelfile(tokenizer) is None
    set_chat_template(tokenizer)
    text = modelfile(tokenizer)
    assert "PARAMETER temperature 0\n" in text and "PARAMETER repeat_penalty 1.0\n" in text
    assert "{{ .Content }}$" in text and text.index("### User:") < text.index("### Assistant:")
