"""Answers are drawn once per model, format, prompt and setting, by any number of processes; losses are the references'."""

from __future__ import annotations

import math
import shutil
from typing import ClassVar

import pytest
import torch
from conftest import turns
from endpoint_servers import mortal_servers, served
from tokenizers import AddedToken

from align_ko.errors import UserError
from align_ko.evaluation import run
from align_ko.evaluation.run import ask_models, encode_references, evaluate, evaluate_grid
from align_ko.generation import answerer
from align_ko.generation.answerer import Answerer
from align_ko.generation.relevance import answer_losses
from align_ko.generation.requests import GREEDY, Generated, row_seed
from align_ko.preferences.candidates import draw_candidates, read_tasks
from align_ko.process import Processes
from align_ko.recipe import (
    DecodingArgs,
    EndpointArgs,
    EvaluateRecipe,
    GenerationArgs,
    GridArgs,
    recipe_from,
)
from align_ko.records import PromptRow, read_jsonl, write_jsonl
from align_ko.stores import shards


class Tokenizer:
    """One id per character, with the members that chat_format asks for."""

    chat_template = "x"
    added_tokens_decoder: ClassVar = {1: AddedToken("$", special=True)}
    all_special_tokens: ClassVar = ["$"]
    eos_token, eos_token_id, pad_token, pad_token_id, bos_token, bos_token_id = "$", 1, "0", 0, None, None

    def __len__(self):
        return 64

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
    rows = [PromptRow("1", prompt, "bcd"), PromptRow("2", prompt, "efghij"), PromptRow("3", prompt)]
    encoded = encode_references(Tokenizer(), rows)
    assert sorted(answer_losses(Uniform(), encoded)) == [
        (0, pytest.approx(4 * math.log(64), abs=1e-4), 4),
        (1, pytest.approx(7 * math.log(64), abs=1e-4), 7),
    ]
    assert list(answer_losses(Uniform(), [])) == []


def test_servers_answer_for_a_model_and_one_of_them_dies(llama, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "held_out.jsonl", [{"id": f"h{n}", "messages": turns(f"{n}번 질문", "네.")} for n in range(9)])

    def never(*_, **__):
        pytest.fail("the weights were loaded")

    monkeypatch.setattr(answerer, "load_for_inference", never)
    with mortal_servers(tmp_path, 4, 0) as (urls, files):
        server = EndpointArgs(urls[0], "tiny", (urls[1],), concurrency=2, check_prompt=False, max_retries=1)
        once, again = (
            evaluate({"tiny": str(llama.folder)}, str(tmp_path / "held_out.jsonl"), tmp_path / "out",
                     sampling={"warm": DecodingArgs(0.7)}, relevance_model=None, endpoints={"tiny": server})
            for _ in range(2)
        )  # fmt: skip
    assert once.answers == again.answers and len(once.answers) == 18
    assert all(row["response"].startswith("답: [") and row["finished"] for row in once.answers)
    assert [result["reference_nll"] for result in once.summary["results"]] == [None, None]
    answered = [str(each) for file in files for each in served(file)]
    assert len(answered) == len(set(answered)) == 18 and 0 < len(served(files[0])) < 4  # each once, also in the second run


def test_an_endpoint_for_no_model_is_told():
    recipe = {"models": {"sft": "a"}, "output_dir": "b", "prompts_file": "core"}
    with pytest.raises(UserError, match=r"endpoints\.sf: there is no model 'sf'; did you mean 'sft'"):
        recipe_from(EvaluateRecipe, **recipe, endpoints={"sf": {"base_url": "http://h/v1", "model": "m"}})
    with pytest.raises(UserError, match=r"endpoints\.sft\.more_base_urls: this contains a secret"):
        endpoint = {"base_url": "http://h/v1", "model": "m", "more_base_urls": ["http://SECRET@h/v1"]}
        recipe_from(EvaluateRecipe, **recipe, endpoints={"sft": endpoint})


@pytest.fixture
def drawn(monkeypatch):
    """What draw_local was asked, each answer being its prompt and its seed; stops after `drawn.most` answers of a call.
    `drawn.loaded` are the models that were loaded; weights are named by their path."""

    class Drawn(list):
        most = 10**6
        loaded: ClassVar = []
        scored: ClassVar = []

    asked = Drawn()
    asked.loaded, asked.scored = [], []

    def draw(requests, on_answer, model, tokenizer, max_new_tokens, batch_size, stop_loops):
        for index in reversed(range(len(requests))):  # answers end in any order
            if len(requests) - index > asked.most:
                raise KeyboardInterrupt
            request = requests[index]
            asked.append(request.prompt[0]["content"])
            on_answer(index, Generated(f"{request.prompt[0]['content']}\u2028{request.seed}", True, 3))

    def relevance(questions, model, file, generation, chat_template, rank):
        asked.scored.append((model, len(questions), rank))
        return [float(prompt[0]["content"] == "2번") for prompt, _ in questions]

    def load(path, dtype, chat_template, load_in_4bit):
        asked.loaded.append(path)
        return Uniform(), Tokenizer()

    monkeypatch.setattr(answerer, "draw_local", draw)
    monkeypatch.setattr(run, "stored_relevance", relevance)
    monkeypatch.setattr(run, "load_tokenizer", lambda path: type("T", (), {"chat_template": "x" * (path != "base")}))
    monkeypatch.setattr(answerer, "load_for_inference", load)
    monkeypatch.setattr(answerer, "load_checkpoint_tokenizer", lambda path, chat_template: Tokenizer())
    monkeypatch.setattr(answerer, "weights_hash", lambda path: path)
    return asked


QUESTIONS = [PromptRow(f"id-{n}", [{"role": "user", "content": f"{n}번"}], None, "probe" * (n == 4)) for n in range(5)]
REFERENCES = [PromptRow(q.id, q.prompt, "가나다" * n) for n, q in enumerate(QUESTIONS)]
WARM = DecodingArgs(1.0)
TEXTS = [f"{n}번\u2028{row_seed(42, n)}" for n in range(5)]


def ask(folder, path="weights-1", decoding=GREEDY, processes=None, references=(), questions=QUESTIONS, **generation):
    asked = {"setting": (decoding, questions)}
    settings = GenerationArgs(**generation)
    return ask_models({"m": path}, asked, list(references), settings, "default", folder, processes)


def texts(answered):
    return [row["response"] for row in answered[0]]


def test_a_finished_evaluation_loads_no_model(tmp_path, drawn, capsys):
    first = ask(tmp_path, references=REFERENCES)
    assert texts(first) == TEXTS and [row["kind"] for row in first[0]] == ["heldout"] * 4 + ["probe"]
    assert first[1] == {"m": pytest.approx(math.log(64), abs=1e-5)}
    capsys.readouterr()
    assert ask(tmp_path, references=REFERENCES) == first
    assert drawn.loaded == ["weights-1"] and len(drawn) == 5
    assert capsys.readouterr().out == "m: 5 answers, 5 of them stored already\n"


def test_answers_are_reused_only_for_the_same_weights_and_settings(tmp_path, drawn):
    ask(tmp_path, decoding=WARM)
    for number, other in enumerate(
        ({"path": "weights-2"}, {"decoding": DecodingArgs(0.9)}, {"seed": 1}, {"max_new_tokens": 9}, {"dtype": "float16"}), 2
    ):
        ask(tmp_path, **{"decoding": WARM, **other})
        assert len(drawn) == 5 * number
    ask(tmp_path, decoding=WARM, batch_size=1)
    assert len(drawn) == 30


def test_an_edited_prompt_under_the_same_id_is_asked_again(tmp_path, drawn):
    ask(tmp_path)
    edited = [*QUESTIONS[:2], PromptRow("id-2", [{"role": "user", "content": "다른 질문"}])]
    assert [text.split("\u2028")[0] for text in texts(ask(tmp_path, questions=edited))] == ["0번", "1번", "다른 질문"]
    assert drawn[5:] == ["다른 질문"]


def test_interrupted_only_what_is_missing_is_drawn(tmp_path, drawn):
    drawn.most = 2
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, decoding=WARM)
    [file] = shards(tmp_path / "answers.jsonl")
    with file.open("ab") as out:
        out.write(b'{"key": "1", "te')  # killed while it wrote
    drawn.most = 10
    assert texts(ask(tmp_path, decoding=WARM)) == TEXTS  # with the seeds of an uninterrupted run
    assert drawn == ["4번", "3번", "2번", "1번", "0번"]


def test_several_processes_share_the_prompts(tmp_path, drawn):
    assert ask(tmp_path, processes=Processes(1, 3), decoding=WARM) is None
    assert drawn == ["4번", "1번"]
    with pytest.raises(UserError, match=r"1 of 5 answers .* are missing; expected an output_dir that all processes share"):
        ask(tmp_path, processes=Processes(0, 2), decoding=WARM)  # begun again with fewer: what was drawn counts
    assert drawn[2:] == ["2번", "0번"]
    assert texts(ask(tmp_path, decoding=WARM)) == TEXTS and drawn[4:] == ["3번"]
    assert [path.name for path in shards(tmp_path / "answers.jsonl")] == ["answers.jsonl", "answers.rank-1.jsonl"]


def test_the_first_process_gets_everything_once_the_others_are_done(tmp_path, drawn):
    asked = {"greedy": (GREEDY, QUESTIONS), "r1.1": (DecodingArgs(repetition_penalty=1.1), QUESTIONS[:2]), "r1": (GREEDY, [])}

    def ask(folder, rank, count, wait=lambda: None):
        processes = Processes(rank, count, wait)
        return ask_models({"a": "x", "a-greedy": "y"}, asked, REFERENCES, GenerationArgs(), "default", folder, processes)

    rows, losses = whole = ask(tmp_path / "one", 0, 1)
    assert [(row["model"], row["setting"], row["response"]) for row in rows] == [
        (name, setting, text)
        for name in ("a", "a-greedy")
        for setting, answers in (("greedy", TEXTS), ("r1.1", TEXTS[:2]))
        for text in answers
    ]
    assert losses == {name: pytest.approx(math.log(64), abs=1e-5) for name in ("a", "a-greedy")}

    def others():
        assert ask(tmp_path / "three", 1, 3) is ask(tmp_path / "three", 2, 3) is None

    assert ask(tmp_path / "three", 0, 3, wait=others) == whole


def test_evaluate_and_the_grid_take_plain_values(tmp_path, drawn):
    write_jsonl(
        tmp_path / "p.jsonl", [*({"prompt": f"{n}번"} for n in range(6)), {"messages": turns("서울은?", "수도입니다.")}]
    )
    options = {"max_prompts": 6, "sampling_prompts": 3, "probes": ["안녕"], "sampling": {"warm": WARM}}
    evaluation = evaluate({"m": "w"}, str(tmp_path / "p.jsonl"), tmp_path / "out", **options)
    assert [(row["setting"], row["prompt"][0]["content"]) for row in evaluation.answers] == [
        *(("greedy", text) for text in ("0번", "1번", "2번", "3번", "4번", "5번", "안녕")),
        *(("warm", text) for text in ("0번", "2번", "4번", "안녕")),
    ]
    assert [(result["setting"], result["n"]) for result in evaluation.summary["results"]] == [("greedy", 6), ("warm", 3)]
    assert list(read_jsonl(tmp_path / "out/responses.jsonl")) == evaluation.answers
    assert [row["relevant"] for row in evaluation.answers] == [
        row["prompt"][0]["content"] == "2번" for row in evaluation.answers
    ]
    assert [result["relevant"] for result in evaluation.summary["results"]] == [pytest.approx(1 / 6), pytest.approx(1 / 3)]
    assert drawn.scored == [("w", 11, 0)] * 2  # this process's share, then all
    drawn.scored.clear()
    models = {"m": "base", "n": "x", "o": "w"}
    for scorer, found in (("", 1 / 6), ("named", 1 / 6), (None, None)):  # one model for all models, or none
        again = evaluate(models, str(tmp_path / "p.jsonl"), tmp_path / "out", relevance_model=scorer, **options)
        assert [result["relevant"] for result in again.summary["results"]][::2] == [pytest.approx(found)] * 3
    assert list(dict.fromkeys(name for name, *_ in drawn.scored)) == ["x", "named"] and "relevant" not in again.answers[0]
    grid = GridArgs((0.7,), (0.9, 1.0), (1.0,), prompts=4)
    gap = evaluate_grid({"m": "w"}, str(tmp_path / "p.jsonl"), tmp_path / "grid", grid)
    assert [(result["setting"], result["n"]) for result in gap.summary["results"]] == [
        ("greedy", 4), ("t0.7-p0.9-r1", 4), ("t0.7-p1-r1", 4),
    ]  # fmt: skip
    assert "cross_fitted" in gap.summary["decoding_gap"]["m"]


# A real tiny model whose chat format changes under the same weights ---------------------------------------------------------

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def lines(file):
    return [path.read_bytes().count(b"\n") for path in shards(file)]


def test_evaluate_asks_anew_under_another_chat_template(llama, tmp_path):
    write_jsonl(tmp_path / "p.jsonl", [{"messages": turns("한국의 수도는?", "서울입니다.")}, {"prompt": "안녕하세요"}])
    (tmp_path / "other.jinja").write_text(TEMPLATE)
    generation = GenerationArgs(max_new_tokens=4, dtype="float32")

    def judge(template):
        evaluation = evaluate(
            {"m": str(llama.folder)}, str(tmp_path / "p.jsonl"), tmp_path, chat_template=template, generation=generation
        )
        stored = [lines(tmp_path / "answers" / name) for name in ("answers.jsonl", "reference_losses.jsonl")]
        return evaluation.summary["results"][0]["reference_nll"], [row["response"] for row in evaluation.answers], stored

    first, answers, stored = judge("default")
    assert stored == [[2], [1]]
    other, other_answers, stored = judge(str(tmp_path / "other.jinja"))
    assert stored == [[4], [2]] and other != first and other_answers != answers
    assert judge("default") == (first, answers, [[4], [2]])


def test_the_pair_builder_asks_anew_when_the_checkpoints_template_changes(llama, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(llama.folder, folder)
    write_jsonl(tmp_path / "p.jsonl", [{"prompt": "안녕하세요"}])
    tasks, _ = read_tasks(str(tmp_path / "p.jsonl"))

    def candidates():
        asked = Answerer(str(folder), GenerationArgs(max_new_tokens=4, dtype="float32"), stop_loops=True)
        draw_candidates(asked.draw, asked.keys, tasks, {}, 42, tmp_path / "out/candidates.jsonl")
        return lines(tmp_path / "out/candidates.jsonl")

    assert candidates() == candidates() == [1]
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    assert candidates() == candidates() == [2]
