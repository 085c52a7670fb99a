"""An OpenAI-compatible server draws what a model loaded here would; its faults are waited out, a person's are told."""

from __future__ import annotations

import gc
import json
from asyncio import sleep as wait
from functools import partial

import pytest
from endpoint_servers import FaultyServer, free_port
from starlette.responses import Response

from align_ko.chat_format import prompt_ids
from align_ko.errors import UserError
from align_ko.generation import endpoint
from align_ko.generation.endpoint import draw_from_endpoint, knobs_of, prompt_fields, text_for_server
from align_ko.generation.requests import GREEDY, Generated, Request, answer_keys, row_seed
from align_ko.preferences.candidates import draw_candidates
from align_ko.recipe import CandidateArgs, DecodingArgs, EndpointArgs
from align_ko.records import PromptRow
from align_ko.stores import shards

PROMPTS = [[{"role": "user", "content": f"{n}번 질문입니다."}] for n in range(6)]
WARM = DecodingArgs(0.7, 0.9, 1.1)


@pytest.fixture
def tokenizer(gemma):
    return gemma.tokenizer()


def args(at, **options):
    return EndpointArgs(at.url, "tiny", **{"server": "vllm", "max_retries": 2, "timeout": 5.0, **options})


def draw(at, tokenizer, prompts=PROMPTS, decoding=GREEDY, **options):
    drawn = {}
    requests = [Request(prompt, decoding, 100 + n) for n, prompt in enumerate(prompts)]
    draw_from_endpoint(requests, drawn.__setitem__, tokenizer, args(at, **options), 32)
    return drawn


def test_prompts_travel_as_the_ids_of_training(tokenizer):
    with FaultyServer() as server:
        drawn = draw(server, tokenizer, decoding=WARM)
    ids = [prompt_ids(tokenizer, prompt) for prompt in PROMPTS]
    assert drawn == {n: Generated(f"답: {ids[n]} {100 + n}", True, 5) for n in range(6)}
    sent = {body["seed"]: body for body in server.bodies}
    knobs = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1, "top_k": -1, "min_p": 0.0}
    assert sent[102] == {"model": "tiny", "prompt": ids[2], "max_tokens": 32, "seed": 102, **knobs}


def test_messages_go_to_the_chat_route(tokenizer):
    length = len(prompt_ids(tokenizer, PROMPTS[0]))
    with FaultyServer(read=length, finish="length") as server:
        drawn = draw(server, tokenizer, PROMPTS[:1], server="ollama")
    assert drawn == {0: Generated("답: 0번 질문입니다. 100", False, 5)}
    assert server.bodies[0]["messages"] == PROMPTS[0] and "prompt" not in server.bodies[0]


def test_another_template_on_the_server_is_noticed(tokenizer):
    length = len(prompt_ids(tokenizer, PROMPTS[0]))
    with FaultyServer(read=length + 4) as server:
        with pytest.raises(
            UserError, match=rf"endpoint\.send: .*read {length + 4} prompt tokens where .* has {length}.*0번 질문"
        ):
            draw(server, tokenizer, PROMPTS[:1], server="ollama")
        assert len(draw(server, tokenizer, PROMPTS[:1], server="ollama", check_prompt=False)) == 1


@pytest.mark.parametrize("fault", [429, 500, 503, 408])
def test_what_passes_is_waited_out(tokenizer, fault):
    with FaultyServer([fault, None, fault]) as server:
        drawn = draw(server, tokenizer, concurrency=1)
    assert sorted(drawn) == list(range(6)) and server.count == {fault: 2, None: 6}
    assert len({answer.text for answer in drawn.values()}) == 6


def test_a_dropped_connection_is_tried_again(tokenizer):
    with FaultyServer([None, "drop"]) as server:
        drawn = draw(server, tokenizer, PROMPTS[:3], concurrency=1)
    assert sorted(drawn) == [0, 1, 2] and server.count["drop"] == 1 and len(server.bodies) == 4


def test_a_slow_answer_is_tried_again_after_the_timeout(tokenizer):
    with FaultyServer(["slow"]) as server:
        assert len(draw(server, tokenizer, PROMPTS[:1], timeout=0.2)) == 1
        assert server.count == {"slow": 1, None: 1}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            400,
            r"endpoint\.server, endpoint\.model, endpoint\.extra_body: .* answered 400: refused on purpose 400.*0번 질문",
        ),
        (401, r"endpoint\.api_key_env: http.* answered 401"),
        (404, r"endpoint\.base_url, endpoint\.model: http.* answered 404.*ends in /v1"),
        (422, r"answered 422: refused on purpose 422"),
    ],
)
def test_what_does_not_pass_ends_the_run_at_once(tokenizer, fault, message):
    with FaultyServer([fault] * 9) as server, pytest.raises(UserError, match=message):
        draw(server, tokenizer, concurrency=1)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (429, r"endpoint\.concurrency: .*answered 429.*3 times; what was answered is saved"),
        (500, r"endpoint\.base_url: .*answered 500.*3 times; what was answered is saved"),
    ],
)
def test_after_the_last_try_the_server_is_told(tokenizer, fault, message):
    with FaultyServer([None] + [fault] * 9) as server, pytest.raises(UserError, match=message):
        draw(server, tokenizer, concurrency=1)
    assert server.count == {None: 1, fault: 3}


def test_a_wrong_address_is_told(tokenizer):
    wrong = EndpointArgs(f"http://127.0.0.1:{free_port()}/v1", "tiny", max_retries=8)
    with pytest.raises(UserError, match=r"endpoint\.base_url: no connection to http://127\.0\.0\.1"):
        draw_from_endpoint([Request(PROMPTS[0], GREEDY, 1)], lambda *told: None, tokenizer, wrong, 32)


def test_the_key_comes_from_the_environment(tokenizer, monkeypatch):
    with FaultyServer(key="비밀".encode().hex()) as server:
        monkeypatch.delenv("OUR_KEY", raising=False)
        with pytest.raises(UserError, match=r"endpoint\.api_key_env: the environment variable OUR_KEY is not set"):
            draw(server, tokenizer, api_key_env="OUR_KEY")
        monkeypatch.setenv("OUR_KEY", "another-key")
        with pytest.raises(UserError, match=r"endpoint\.api_key_env: .*answered 401: wrong key"):
            draw(server, tokenizer, api_key_env="OUR_KEY")
        assert server.bodies == []
        monkeypatch.setenv("OUR_KEY", server.key)
        assert len(draw(server, tokenizer, api_key_env="OUR_KEY")) == 6


@pytest.mark.parametrize("concurrency", [1, 4])
def test_so_many_requests_are_under_way_at_once(tokenizer, concurrency):
    with FaultyServer(delay=0.05) as server:
        draw(server, tokenizer, PROMPTS * 3, concurrency=concurrency)
    assert server.most_at_once == concurrency and len(server.bodies) == 18


def test_a_failed_run_keeps_its_answers_and_the_next_asks_for_the_rest(tokenizer, tmp_path):
    file, keys = tmp_path / "candidates.jsonl", partial(answer_keys, tokenizer=tokenizer, weights="abc", max_new_tokens=32)
    tasks = [PromptRow(f"t{n}", prompt, None) for n, prompt in enumerate(PROMPTS)]
    settings = {"warm": CandidateArgs(0.7, 0.9, 1.1, samples=2)}

    def through(server):
        def answer(requests, on_answer):
            draw_from_endpoint(requests, on_answer, tokenizer, args(server, concurrency=2), 32)

        return draw_candidates(answer, keys, tasks, settings, 42, file)

    with FaultyServer([None] * 7 + [500] * 99) as server, pytest.raises(UserError, match="answered 500"):
        through(server)
    kept = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(kept) == 7
    with FaultyServer() as server:
        drawn = through(server)
    assert len(server.bodies) == 18 - 7
    for task in tasks:
        seeds = [row_seed(42, task.id, *key) for key in (("greedy", 0), ("warm", 0), ("warm", 1))]
        assert [candidate.text.split()[-1] for candidate in drawn[task.id]] == [str(seed) for seed in seeds]
    assert sum(1 for path in shards(file) for _ in path.open()) == 18


NO_COMPLETIONS = [
    b'{"id": "x", "choices": [{"te',
    b"",
    b"null",
    b"[]",
    b'"hello"',
    b"<html>login</html>",
    b'data: {"id": "x"}\n\ndata: [DONE]\n\n',
    b'{"error": {"message": "overloaded"}}',
    b'{"choices": null}',
    b'{"choices": []}',
    b'{"choices": [null]}',
    b'{"choices": [{"index": 0, "finish_reason": "stop"}]}',
    b'{"choices": [{"text": 5, "finish_reason": "stop"}]}',
    rb'{"choices": [{"text": "\ud83d", "finish_reason": "stop"}]}',
    b'{"choices": [{"text": "\xff", "finish_reason": "stop"}]}',
]


@pytest.mark.parametrize("content", NO_COMPLETIONS)
def test_a_reply_that_is_no_completion_is_asked_for_again_and_then_told(tokenizer, content, monkeypatch):
    monkeypatch.setattr(endpoint.asyncio, "sleep", lambda seconds: wait(0))
    with FaultyServer([Response(content, media_type="application/json"), None]) as server:
        assert draw(server, tokenizer, PROMPTS[:1]) and len(server.bodies) == 2
    with FaultyServer([Response(content, media_type="text/html")] * 3) as server:
        with pytest.raises(
            UserError, match=r"endpoint\.base_url: http.* answered 3 times with what is no completion: .*is saved"
        ):
            draw(server, tokenizer, PROMPTS[:1])
        assert len(server.bodies) == 3


@pytest.mark.parametrize("listing", [Response("<html>hi</html>", media_type="text/html"), Response(status_code=500)])
def test_a_server_without_a_list_of_models_passes(tokenizer, listing):
    with FaultyServer() as server:
        server.listing = listing
        assert len(draw(server, tokenizer, PROMPTS[:1])) == 1


@pytest.mark.parametrize("usage", [b"null", b'{"prompt_tokens": "many", "completion_tokens": "x"}'])
def test_counts_that_a_server_does_not_give_are_made_here(tokenizer, usage):
    reply = b'{"choices": [{"text": " \xeb\x84\xa4", "finish_reason": "stop"}], "usage": ' + usage + b"}"
    with FaultyServer([Response(reply)]) as server:
        drawn = draw(server, tokenizer, PROMPTS[:1])
    assert drawn == {0: Generated("네", True, len(tokenizer(" 네", add_special_tokens=False)["input_ids"]))}


def test_another_model_in_the_reply_is_noticed(tokenizer, capsys):
    with FaultyServer() as server:
        requests = [Request(prompt, GREEDY, 1) for prompt in PROMPTS[:2]]
        draw_from_endpoint(requests, lambda *told: None, tokenizer, EndpointArgs(server.url, "ours"), 32)
    told = f"warning: endpoint.model: {server.url} was asked for ours and answers as tiny\n"
    assert capsys.readouterr().err == told


def test_no_redirect_is_followed(tokenizer):
    with FaultyServer() as other:
        away = Response(status_code=307, headers={"location": f"{other.url}/completions"})
        with FaultyServer([away]) as server, pytest.raises(UserError, match=rf"endpoint\.base_url: .*redirects to {other.url}"):
            draw(server, tokenizer, PROMPTS[:1])
        assert other.bodies == []


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_key_that_the_server_repeats_is_masked(tokenizer, monkeypatch, status):
    monkeypatch.setenv("OUR_KEY", "SECRETKEY")
    echo = Response(b'{"error": {"message": "no, SECRETKEY"}}', status, media_type="application/json")
    with FaultyServer([echo]) as server, pytest.raises(UserError, match=r"no, \*\*\*") as error:
        draw(server, tokenizer, PROMPTS[:1], api_key_env="OUR_KEY", max_retries=0)
    assert "SECRETKEY" not in str(error.value)


# What each server is sent ---------------------------------------------------------------------------------------------------


def test_servers_name_the_knobs_differently(tokenizer):
    def knobs(server, decoding=WARM):
        return knobs_of(server, decoding, 32, tokenizer)

    assert knobs("vllm") == knobs("sglang") == {"repetition_penalty": 1.1, "top_k": -1, "min_p": 0.0}
    assert knobs("llama_cpp") == {"repeat_penalty": 1.1, "repeat_last_n": 65536, "top_k": 0, "min_p": 0.0}
    config = {"repetition_penalty": 1.1, "max_new_tokens": 32, "do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 0}
    assert json.loads(knobs("transformers")["generation_config"]) == {
        **config, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    assert json.loads(knobs("transformers", GREEDY)["generation_config"])["do_sample"] is False
    assert knobs("ollama", GREEDY) == {}
    with pytest.raises(UserError, match=r"candidates: Ollama's .* no repetition penalty, and a candidate asks for 1\.1"):
        knobs("ollama")


def test_fields_of_the_recipe_win(tokenizer):
    with FaultyServer() as server:
        draw(server, tokenizer, PROMPTS[:1], decoding=WARM, extra_body={"top_k": 40, "priority": 1})
    assert (server.bodies[0]["top_k"], server.bodies[0]["priority"], server.bodies[0]["repetition_penalty"]) == (40, 1, 1.1)


def test_text_gives_the_ids_back_or_is_refused(tiny):
    tokenizer = tiny.tokenizer()
    for prompt in PROMPTS:
        ids = prompt_ids(tokenizer, prompt)
        text = text_for_server(tokenizer, prompt, ids)
        assert tokenizer(text)["input_ids"] == ids and ids.count(tokenizer.bos_token_id) == 1
        fields, length = prompt_fields(tokenizer, prompt, EndpointArgs("u", "m", server="transformers"))
        assert fields == {"prompt": text} and length == len(ids)
    with pytest.raises(UserError, match=r"endpoint\.send: no text gives .* expected token_ids"):
        text_for_server(tokenizer, PROMPTS[0], [*ids, 5])


def test_ctrl_c_ends_it(tokenizer, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(endpoint, "prompt_fields", interrupted)
    with FaultyServer() as server, pytest.raises(KeyboardInterrupt):
        draw(server, tokenizer)
    gc.collect()  # prints the task's traceback here, not inside another test's ast.parse (CPython gh-106905)
