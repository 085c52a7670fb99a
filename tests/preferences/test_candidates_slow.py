"""Drawing that is killed, shared and served for real: SIGKILL at random moments, two processes, `transformers serve`.

`make test-slow`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from conftest import Tiny, make_gemma, make_llama, rows
from endpoint_servers import free_port

from align_ko.generation.endpoint import draw_from_endpoint
from align_ko.generation.local import draw_local, generate_answers
from align_ko.generation.requests import GREEDY, Request, answer_keys
from align_ko.models.load import greedy_config
from align_ko.preferences.candidates import Candidate, draw_candidates
from align_ko.recipe import CandidateArgs, DecodingArgs, EndpointArgs
from align_ko.records import PromptRow, read_jsonl, write_jsonl
from align_ko.stores import shards

ROOT = Path(__file__).parents[2]
SETTINGS = {"cool": CandidateArgs(0.7, 0.9, 1.1, samples=2), "warm": CandidateArgs(1.0)}
TASKS = [PromptRow(f"t{n}", [{"role": "user", "content": f"{n}번 " + "서울에는 한강이 " * (n % 9)}], None) for n in range(60)]
RUNGS = [("greedy", 0), ("cool", 0), ("cool", 1), ("warm", 0)]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(torch.cuda.is_available(), reason="two processes on one CPU")]


def checkpoint(make, folder: Path) -> Path:
    """A folder as SFT leaves it: template, greedy generation config; answers end now and then."""
    tiny: Tiny = make(folder)
    model, tokenizer = tiny.model(), tiny.tokenizer()
    model.generation_config = greedy_config(tokenizer)
    generator = torch.Generator().manual_seed(5)
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn(head.weight.shape, generator=generator) * 0.2)
    head.weight.data[tokenizer.eos_token_id] *= 2.0
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def lines(file: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in shards(file))


def keys(file: Path) -> list[tuple[str, str, int]]:
    """(prompt, setting, sample) of every whole line of every shard."""
    texts = [path.read_bytes().decode(errors="replace").rsplit("\n", 1)[0] for path in shards(file)]
    parsed = [json.loads(line) for text in texts for line in text.split("\n") if line]
    return [(row["id"], row["setting"], row["sample"]) for row in parsed]


def kill_at(process, file: Path, threshold: int, rng: random.Random, kill) -> None:
    """Kill as soon as `threshold` lines stand there, and up to 20 ms more: inside a step, a write or a flush."""
    until = time.monotonic() + 120
    while lines(file) < threshold and time.monotonic() < until and not ended(process):
        time.sleep(0.001)
    time.sleep(rng.random() * 0.02)
    kill(process)


def ended(process) -> bool:
    return process.poll() is not None if isinstance(process, subprocess.Popen) else not process.is_alive()


def draw_here(folder: Path, file: Path) -> dict[str, list[Candidate]]:
    tiny = Tiny(folder)
    model, tokenizer = tiny.model().double(), tiny.tokenizer()  # rounding, which differs with the batch, decides nothing
    draw = partial(draw_local, model=model, tokenizer=tokenizer, max_new_tokens=48, batch_size=16, stop_loops=True)
    answer_key = partial(answer_keys, tokenizer=tokenizer, weights="tiny", max_new_tokens=48)
    return draw_candidates(draw, answer_key, TASKS, SETTINGS, 42, file)


def test_killed_twenty_times_nothing_is_lost_and_nothing_repeated(tmp_path):
    folder, file = checkpoint(make_llama, tmp_path / "llama"), tmp_path / "candidates.jsonl"
    rng, total = random.Random(20), len(TASKS) * len(RUNGS)
    thresholds = sorted(rng.sample(range(1, total - 20), 20))
    killed = []
    for threshold in thresholds:
        before = lines(file)
        process = multiprocessing.get_context("fork").Process(target=draw_here, args=(folder, file))
        process.start()
        kill_at(process, file, max(threshold, before + 1), rng, lambda process: process.kill())
        process.join()
        killed.append(process.exitcode)
        assert before < lines(file) < total  # it had gone on, and was not done
    assert killed == [-signal.SIGKILL] * 20
    drawn = draw_here(folder, file)
    assert sorted(keys(file)) == sorted((task.id, *rung) for task in TASKS for rung in RUNGS)  # each once
    assert drawn == draw_here(folder, tmp_path / "whole.jsonl")  # the same texts as without interruption
    assert len({candidate.text for found in drawn.values() for candidate in found}) > total / 3  # not all empty


# The script, two processes --------------------------------------------------------------------------------------------------

# MULTI_GPU with use_cpu is what makes accelerate 1.15 start two processes on a CPU; MULTI_CPU starts one.
CONFIG = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nuse_cpu: true\nnum_machines: 1\nnum_processes: 2\n"
RECIPE = """\
model_name_or_path: gemma
prompts_file: prompts.jsonl
output_dir: {output}
skip_prompts_files: [sft.jsonl]
candidates:
  cool: {{temperature: 0.7, top_p: 0.9, repetition_penalty: 1.1, samples: 2}}
generation: {{max_new_tokens: 96, batch_size: 4}}
pairing: {{reference_share: 1.0}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    checkpoint(make_gemma, folder / "gemma")
    questions = [{"prompt": f"{n}번째로 묻습니다. 서울에는 무엇이 있나요?"} for n in range(40)]
    write_jsonl(folder / "prompts.jsonl", [*questions, *rows()])
    write_jsonl(folder / "sft.jsonl", rows())
    (folder / "two.yaml").write_text(CONFIG + f"main_process_port: {free_port()}\n")
    for output in ("killed", "whole"):
        (folder / f"{output}.yaml").write_text(RECIPE.format(output=output))
    return folder


def start(place: Path, recipe: str, two: bool, script: str = "build_preferences") -> subprocess.Popen[str]:
    accelerate = ["-m", "accelerate.commands.launch", "--config_file", "two.yaml"] if two else []
    command = [sys.executable, *accelerate, str(ROOT / f"scripts/{script}.py"), recipe]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = str(ROOT / "src")  # this checkout, wherever another one may be installed
    return subprocess.Popen(command, cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_two_processes_killed_then_one_interrupted_then_two_again(place):
    file, rng, total = place / "killed/candidates.jsonl", random.Random(1), 40 * 3

    def kill_all(process):  # torchrun's workers lead sessions of their own, so there is no group to kill
        for part in [*psutil.Process(process.pid).children(recursive=True), process]:
            part.kill()

    process = start(place, "killed.yaml", two=True)
    kill_at(process, file, 40, rng, kill_all)
    text = process.communicate()[0]
    first = lines(file)
    assert 40 <= first < total, text[-3000:]
    assert [path.name for path in shards(file)] == ["candidates.jsonl", "candidates.rank-1.jsonl"]

    process = start(place, "killed.yaml", two=False)
    kill_at(process, file, first + 1, rng, lambda process: process.send_signal(signal.SIGINT))
    text = process.communicate()[0]
    second = lines(file)
    assert process.returncode == 130 and "interrupted; what was finished is saved" in text, text[-3000:]
    assert f"40 prompts; 0 left out as too near to an evaluation prompt, {len(rows())} because they are in skip" in text
    assert f"{first} answers are stored already, {total - first} to go" in text and first < second < total

    process = start(place, "killed.yaml", two=True)
    text = process.communicate()[0]
    assert "process 1 of 2: " in text and "process 2 of 2: " in text, text[-3000:]
    assert len(keys(file)) == len(set(keys(file))) == total

    start(place, "whole.yaml", two=False).communicate()
    whole = place / "whole/candidates.jsonl"

    def texts(file):
        found = [json.loads(line) for path in shards(file) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return {(row["id"], row["setting"], row["sample"]): row["text"] for row in found}

    # In float32 rounding may choose between two tokens of a random model, whose tokens are all about equally likely.
    assert sum(texts(file)[key] == text for key, text in texts(whole).items()) >= 0.95 * total == 0.95 * len(texts(whole))


EVALUATION = """\
models: {{gemma: gemma}}
prompts_file: asked.jsonl
output_dir: {output}
probes: ["안녕하세요?"]
sampling: {{warm: {{temperature: 1.0}}}}
sampling_prompts: 20
generation: {{max_new_tokens: 48, batch_size: 8, dtype: float32}}
"""


def test_evaluate_shared_by_two_processes_and_killed_gives_what_one_gives(place):
    asked = [{"messages": task.prompt} for task in TASKS[:40]]
    write_jsonl(place / "asked.jsonl", [*asked, *rows()])
    for output in ("by-one", "by-two"):
        (place / f"{output}.yaml").write_text(EVALUATION.format(output=output))
    one = start(place, "by-one.yaml", two=False, script="evaluate").communicate()[0]
    assert "report:" in one, one[-3000:]

    def kill_all(process):
        for part in [*psutil.Process(process.pid).children(recursive=True), process]:
            part.kill()

    file, rng = place / "by-two/answers/answers.jsonl", random.Random(3)
    process = start(place, "by-two.yaml", two=True, script="evaluate")
    kill_at(process, file, 12, rng, kill_all)
    process.communicate()
    left = lines(file)
    assert 12 <= left < 40 and not (place / "by-two/manifest.json").exists()
    process = start(place, "by-two.yaml", two=True, script="evaluate")
    text = process.communicate()[0]
    assert process.returncode == 0, text[-3000:]
    assert text.count("report:") == 1 and "of them stored already" in text  # one process speaks

    whole, shared = (list(read_jsonl(place / output / "responses.jsonl")) for output in ("by-one", "by-two"))
    assert [(row["setting"], row["prompt"]) for row in shared] == [(row["setting"], row["prompt"]) for row in whole]
    assert sum(a["response"] == b["response"] for a, b in zip(whole, shared, strict=True)) >= 0.9 * len(whole)
    scores = (json.loads((place / output / "scores.json").read_text(encoding="utf-8")) for output in ("by-one", "by-two"))
    losses = [score["results"][0]["reference_nll"] for score in scores]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[0] > 1


# A server of a well-kept package --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[make_llama, make_gemma], ids=["llama", "gemma"])
def served(request, tmp_path_factory):
    """(folder, base_url) of `transformers serve`."""
    folder = checkpoint(request.param, tmp_path_factory.mktemp("served") / "tiny")
    port = free_port()
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(folder), "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder.parent / "log.txt").open("w") as log:
        server = subprocess.Popen([*command, "--host", "127.0.0.1"], env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                gone = server.poll() is not None or time.monotonic() > until
                assert not gone, (folder.parent / "log.txt").read_text()[-3000:]
                time.sleep(0.2)
        yield folder, f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(20)


def ask(served, decoding, seed=1, **options):
    folder, url = served
    drawn = {}
    requests = [Request(task.prompt, decoding, seed + n) for n, task in enumerate(TASKS[:8])]
    args = EndpointArgs(url, str(folder), **{"server": "transformers", "concurrency": 3, **options})
    draw_from_endpoint(requests, drawn.__setitem__, Tiny(folder).tokenizer(None), args, 24)
    return [drawn[at] for at in range(8)]


@pytest.mark.parametrize("decoding", [GREEDY, DecodingArgs(repetition_penalty=1.3)])
@pytest.mark.parametrize("send", ["text", "messages"])
def test_transformers_serve_answers_as_the_model_does_here(served, decoding, send):
    folder, _ = served
    model, tokenizer = Tiny(folder).model(), Tiny(folder).tokenizer(None)
    here = generate_answers(model, tokenizer, [task.prompt for task in TASKS[:8]], decoding, 24)
    there = ask(served, decoding, send=send)
    assert [answer.text for answer in there] == [answer.text for answer in here]
    assert [answer.finished for answer in there] == [answer.finished for answer in here]
    assert 1 <= sum(answer.finished for answer in here) < 8


def test_transformers_serve_samples(served):
    warm = [ask(served, DecodingArgs(1.0, 0.9, 1.1), seed) for seed in (1, 100)]
    assert sum(a.text != b.text for a, b in zip(*warm, strict=True)) >= 6
