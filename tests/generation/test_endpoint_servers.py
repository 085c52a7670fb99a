"""Several servers of one model: the least loaded answers, and one that dies loses nothing."""

from __future__ import annotations

import json
from asyncio import sleep as wait
from functools import partial

import pytest
from endpoint_servers import FaultyServer, free_port, mortal_servers, served

from align_ko.errors import UserError
from align_ko.generation.endpoint import draw_from_endpoint
from align_ko.generation.judge_endpoint import Asked, JudgeEndpoint
from align_ko.generation.requests import GREEDY, Request, answer_keys
from align_ko.preferences.candidates import draw_candidates
from align_ko.recipe import CandidateArgs, EndpointArgs, JudgeEndpointArgs
from align_ko.records import PromptRow
from align_ko.stores import shards

PROMPTS = [[{"role": "user", "content": f"{n}번 질문입니다."}] for n in range(8)]
SECONDS = {"timeout": 20.0, "max_retries": 1}


@pytest.fixture
def tokenizer(gemma):
    return gemma.tokenizer()


def draw(tokenizer, args, prompts=PROMPTS):
    drawn: dict = {}
    requests = [Request(prompt, GREEDY, 100 + n) for n, prompt in enumerate(prompts)]
    draw_from_endpoint(requests, drawn.__setitem__, tokenizer, args, 32)
    return drawn


def test_the_server_with_fewest_under_way_is_asked(tokenizer):
    class Slow(FaultyServer):
        async def answer(self, body):
            for _ in range(2000):
                if len(quick.bodies) == 7:  # the other one has got the rest
                    break
                await wait(0.01)
            return await super().answer(body)

    with FaultyServer() as quick, Slow() as slow:
        args = EndpointArgs(slow.url, "tiny", more_base_urls=(quick.url,), concurrency=1, check_prompt=False, **SECONDS)
        drawn = draw(tokenizer, args)
    assert sorted(drawn) == list(range(8)) and (len(slow.bodies), len(quick.bodies)) == (1, 7)
    assert slow.most_at_once == quick.most_at_once == 1


def test_candidates_survive_the_death_of_a_server(tokenizer, tmp_path, capsys):
    file, keys = tmp_path / "candidates.jsonl", partial(answer_keys, tokenizer=tokenizer, weights="abc", max_new_tokens=32)
    tasks = [PromptRow(f"t{n}", prompt, None) for n, prompt in enumerate(PROMPTS)]

    with mortal_servers(tmp_path, 5, 0) as (urls, files):
        args = EndpointArgs(urls[0], "tiny", more_base_urls=(urls[1],), concurrency=3, check_prompt=False, **SECONDS)

        def answer(requests, on_answer):
            draw_from_endpoint(requests, on_answer, tokenizer, args, 32)

        drawn = [draw_candidates(answer, keys, tasks, {"warm": CandidateArgs(0.7, samples=2)}, 42, file) for _ in range(2)]
    assert drawn[0] == drawn[1] and [len(each) for each in drawn[0].values()] == [3] * 8
    rows = [json.loads(line) for path in shards(file) for line in path.open()]
    assert len(rows) == len({row["key"] for row in rows}) == 24  # none lost, none stored twice, none asked again
    died, lives = served(files[0]), served(files[1])
    assert 0 < len(died) < 5 and len(lives) > 12
    assert len({json.dumps(each) for each in [*died, *lives]}) == len(died) + len(lives) == 24  # each was answered once
    told = capsys.readouterr().err
    assert told == f"warning: endpoint: {urls[0]} is left out (APIConnectionError), 1 of 2 servers answer\n"


def test_verdicts_survive_the_death_of_a_server(tmp_path):
    asked = [Asked("rubric", f"answer {n}") for n in range(20)]
    with mortal_servers(tmp_path, 0, 6) as (urls, files):
        args = JudgeEndpointArgs(urls[0], "tiny", more_base_urls=(urls[1],), concurrency=3, **SECONDS)
        judge = JudgeEndpoint(args, tmp_path / "verdicts.jsonl", "judges.llm", lambda reply: reply[-1] or None)
        said = judge.ask(asked)
        one_left = JudgeEndpointArgs(urls[0], "tiny", **SECONDS)  # the verdicts belong to `base_url`, whoever gave them
        again = JudgeEndpoint(one_left, tmp_path / "verdicts.jsonl", "judges.llm", lambda reply: reply[-1] or None).ask(asked)
    assert said == again and len(said) == 20
    answered = [text for file in files for text, *_ in served(file)]
    assert sorted(answered) == sorted(each.text for each in asked) and 0 < len(served(files[1])) < 6


def test_a_server_that_is_away_from_the_start_is_left_out_and_one_has_to_be_there(tokenizer, capsys):
    nowhere = [f"http://127.0.0.1:{free_port()}/v1" for _ in range(2)]
    with FaultyServer() as server:
        args = EndpointArgs(nowhere[0], "tiny", more_base_urls=(server.url,), check_prompt=False, **SECONDS)
        assert len(draw(tokenizer, args)) == len(server.bodies) == 8
    assert f"{nowhere[0]} is left out" in capsys.readouterr().err
    with pytest.raises(UserError, match=rf"endpoint\.base_url: no connection to {nowhere[1]}"):
        draw(tokenizer, EndpointArgs(nowhere[0], "tiny", more_base_urls=(nowhere[1],), **SECONDS))


@pytest.mark.parametrize("fault", [400, 401, 404])
def test_what_another_server_would_refuse_as_well_ends_the_run(tokenizer, fault):
    with FaultyServer([fault] * 9) as wrong, FaultyServer() as right:
        args = EndpointArgs(wrong.url, "tiny", more_base_urls=(right.url,), concurrency=1, check_prompt=False, **SECONDS)
        with pytest.raises(UserError, match=f"{wrong.url} answered {fault}"):
            draw(tokenizer, args)


@pytest.mark.parametrize("finish", ["abort", "error"])
def test_an_answer_that_the_server_gave_up_is_asked_for_again(tokenizer, finish):
    with FaultyServer(finish=finish) as ill, FaultyServer() as sound:
        args = EndpointArgs(ill.url, "tiny", more_base_urls=(sound.url,), concurrency=1, check_prompt=False, max_retries=0)
        assert len(draw(tokenizer, args)) == 8
        assert (len(ill.bodies), len(sound.bodies)) == (1, 8)
