"""Many rows are tokenised by several workers, once on each machine: the same ids, the same dropped rows, the same message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from conftest import MULTI_TURN, rows, turns
from trl import SFTConfig

from align_ko.errors import UserError
from align_ko.process import HOLDER_FILE, LOCK_FILE, lock_folder
from align_ko.recipe import SftRecipe, load_recipe
from align_ko.records import TEMPORARY
from align_ko.training import prepare
from align_ko.training.prepare import TooLong, conversations_of, tokenize_conversations, tokenize_pairs, training_config

# The first message has a key that no other has, the third row no id: Arrow would give the key to all.
ODD = [{"messages": [{**MULTI_TURN[0], "name": "가"}, *MULTI_TURN[1:]], "id": "a"}, *rows()[:4], {"messages": MULTI_TURN[1:3]}]
PAIRS = [
    {"id": f"p{n}", "prompt": MULTI_TURN[:2], "chosen": turns("", "서울입니다." * (n + 1))[1:],
     "rejected": turns("", "네 네")[1:], "rejected_finished": n % 2 == 0}
    for n in range(5)
]  # fmt: skip


@pytest.fixture
def parallel(monkeypatch):
    monkeypatch.setattr(prepare, "PARALLEL_ROWS", 2)


@pytest.mark.parametrize(("tokenize", "data"), [(tokenize_conversations, ODD), (tokenize_pairs, PAIRS)])
@pytest.mark.parametrize("limit", ["none", "median", "nothing fits"])
def test_workers_give_what_one_process_gives(tiny, monkeypatch, tokenize, data, limit):
    tokenizer = tiny.tokenizer()
    plain, _ = tokenize(tokenizer, data, None)
    max_length = {"none": None, "median": sorted(plain["length"])[2], "nothing fits": 1}[limit]
    plain, dropped = tokenize(tokenizer, data, max_length)
    monkeypatch.setattr(prepare, "PARALLEL_ROWS", 2)
    many, also_dropped = tokenize(tokenizer, data, max_length)
    assert many.column_names == plain.column_names and many.to_dict() == plain.to_dict()
    assert also_dropped == dropped and len(dropped) == len(data) - len(many)
    assert (limit == "none") == (not dropped)


SLOW = """
import os, sys, time
from align_ko.process import lock_folder
from align_ko.training import prepare

def slow(tokenizer, rows, max_length, first):
    if rows:
        os.write(1, f"{os.getpid()}\\n".encode())
        time.sleep(60)
    return {"input_ids": [], "too_long": []}

prepare.PARALLEL_ROWS = 1
prepare.cores = lambda: 2
lock_folder(sys.argv[1])
prepare._tokenize(slow, None, [{}, {}], None)
"""


def test_tokenising_leaves_no_process_and_no_file_of_a_killed_run(tmp_path):
    """datasets.map left its manager process, for ever, and its sockets and our rows in /tmp."""
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    command, environment = [sys.executable, tmp_path / "slow.py", out], {**os.environ, "TMPDIR": str(temporary)}
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    workers = psutil.Process(run.pid).children(recursive=True) if run.stdout.readline() else []
    assert len(workers) == 2 and len(list(out.glob(f".tokens.*{TEMPORARY}"))) == 1
    run.kill()
    run.wait()
    assert not psutil.wait_procs(workers, 20)[1]
    lock_folder(out)  # the next run
    assert sorted(path.name for path in out.iterdir()) == [LOCK_FILE, HOLDER_FILE]
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor_")] == []  # torch's cache


def test_no_checkpoint_holds_a_token(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    config = training_config(SFTConfig, {"output_dir": str(tmp_path), "hub_token": "hf_secret", "eos_token": "</s>"})
    torch.save(config, tmp_path / "training_args.bin")
    assert os.environ["HF_TOKEN"] == "hf_secret" and b"hf_secret" not in (tmp_path / "training_args.bin").read_bytes()
    assert config.hub_token is None and config.eos_token == "</s>"


def test_a_row_without_an_id_is_known_by_its_number(tiny):
    dataset, _ = tokenize_conversations(tiny.tokenizer(), ODD, None)
    found = conversations_of(dataset, ODD)
    assert found[hash(tuple(dataset["input_ids"][5]))] == MULTI_TURN[1:3]
    assert all(type(key) is int for key in found)  # no token ids are kept: they would take 3 GB for 190,000 rows


def test_a_worker_names_the_row_that_cannot_be_tokenised(tiny, parallel):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = (
        tokenizer.chat_template + "{% if messages[0].content == '나' %}{{ raise_exception('no') }}{% endif %}"
    )
    bad = [*rows(), {"messages": turns("나", "다"), "id": "bad"}]
    with pytest.raises(UserError, match=r"^row 10 \(id bad\): the chat template refuses this conversation: no$"):
        tokenize_conversations(tokenizer, bad, None)


PROGRAM = """
import os, sys
from accelerate import PartialState
from transformers import AutoTokenizer
from align_ko.models.load import load_tokenizer
from align_ko.training import prepare
sys.path.insert(0, sys.argv[2])
from conftest import rows
prepare.PARALLEL_ROWS = 2
made = prepare._encode_in_parallel
def counted(*args):
    os.write(1, f"made by {os.environ['RANK']}\\n".encode())  # one write: the other process writes to the same pipe
    return made(*args)
prepare._encode_in_parallel = counted
state = PartialState(cpu=True)
data, dropped = prepare.tokenize_conversations(load_tokenizer(sys.argv[1], "default"), rows(), 40)
os.write(1, f"rank {state.process_index}: {sum(data['length'])} {len(data)} {dropped}\\n".encode())
"""


def test_one_process_of_two_tokenises_and_both_have_the_rows(llama, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "program.py"]
    done = subprocess.run(
        [*launch, str(llama.folder), os.path.dirname(os.path.dirname(__file__))],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain, dropped = tokenize_conversations(llama.tokenizer(), rows(), 40)
    lines = sorted(line for line in done.stdout.splitlines() if line.startswith(("made", "rank")))
    each = f"{sum(plain['length'])} {len(plain)} {dropped}"
    assert lines == ["made by 0", f"rank 0: {each}", f"rank 1: {each}"]
    assert dropped and not list(tmp_path.rglob(f"*{TEMPORARY}"))  # nothing is left behind


class Rows(dict):
    def __len__(self):
        return len(self["id"])


@pytest.fixture
def lengths(tmp_path, monkeypatch, capsys):
    """check_lengths of a recipe with max_length 16, for ids that are kept and (id, tokens) that are not."""
    monkeypatch.chdir(tmp_path)
    Path("sft.yaml").write_text(
        "model: {model_name_or_path: a/b}\ndata: {train_file: t.jsonl, eval_file: e.jsonl}\ntraining:\n  output_dir: o\n"
        "  max_length: 16\n"
    )
    recipe = load_recipe(SftRecipe, ["sft.yaml"])

    def check(key, kept, dropped, eval_strategy="steps"):
        config = SimpleNamespace(max_length=16, eval_strategy=eval_strategy, process_index=0)
        prepare.check_lengths(recipe, key, Rows(id=kept), [TooLong(*row) for row in dropped], config)
        return capsys.readouterr().out

    return check


def test_rows_over_max_length_are_counted_before_the_first_step(lengths):
    assert lengths("train_file", ["a", "b"], []) == ""
    said = "e.jsonl: 2 of 3 rows are longer than training.max_length (16 tokens) and left out whole; the longest (id c) has "
    assert lengths("eval_file", ["a"], [("b", 17), ("c", 1585)]) == said + "1,585\n"
    assert lengths("eval_file", ["a", "a", "a"], [("b", 17)]).startswith("e.jsonl: 1 of 2 rows")  # a row of several answers


@pytest.mark.parametrize(("key", "file"), [("train_file", "t.jsonl"), ("eval_file", "e.jsonl")])
def test_a_file_with_no_row_short_enough_is_refused(lengths, key, file):
    said = rf"sft.yaml:5: training.max_length: all 2 rows of {file} are longer than 16 tokens: the shortest \(id a\) has 20, "
    with pytest.raises(UserError, match=said + r"the longest \(id b\) 85; expected 85 to keep all"):
        lengths(key, [], [("a", 20), ("b", 85)])
    with pytest.raises(UserError, match=rf"sft.yaml:2: data.{key}: {file} contains no rows"):
        lengths(key, [], [])


def test_without_evaluation_no_eval_row_is_needed(lengths):
    assert lengths("eval_file", [], [], eval_strategy="no") == ""
