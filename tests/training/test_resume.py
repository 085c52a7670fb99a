"""A training run that is cut off, in every way: what goes on, what starts over, what is refused."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from forked_runs import ForkedRuns
from safetensors.torch import save_file
from torch.utils.data import BatchSampler, SequentialSampler
from training_place import make_place, run_here, weights

from align_ko.errors import RESTART, UserError
from align_ko.manifest import RUN_FILE, is_unfinished, result_marks, result_problem
from align_ko.models.source import ModelSource
from align_ko.recipe import SftRecipe, check_inputs, load_recipe
from align_ko.training import run_record
from align_ko.training.checkpoints import ResumableTrainer, checkpoints, damage, half_written, last_complete, mark_complete
from align_ko.training.overfitting import OverfittingWatch
from align_ko.training.run_record import begin_run, finish_run, open_run


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code may catch it."""


@pytest.fixture(scope="module")
def place(llama, tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"), llama)


def cut_at_call(patch, where: str, number: int) -> None:
    """Let the function named `where` die on its `number`th call."""
    module, _, name = where.rpartition(".")
    import importlib

    try:
        owner = importlib.import_module(module)
    except ModuleNotFoundError:
        outer, _, inner = module.rpartition(".")
        owner = getattr(importlib.import_module(outer), inner)
    original, calls = getattr(owner, name), iter(range(1, 10_000))

    def dying(*args, **kwargs):
        if next(calls) == number:
            raise Killed
        return original(*args, **kwargs)

    patch.setattr(owner, name, dying)


# Whole runs -----------------------------------------------------------------------------------------------------------

CUTS = {
    "training_step": ("transformers.trainer.Trainer.training_step", 24),  # in the second epoch, past checkpoint-9
    "checkpoint": ("align_ko.training.checkpoints.mark_complete", 2),  # all files of a checkpoint, and not its marker
    "result": ("align_ko.training.finish.save_stage", 1),  # after the last step
}


def test_sft_cut_off_three_times_ends_with_the_same_weights(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    # 14 steps end in the middle of an epoch, where transformers would train a fifteenth; the last weights, not the best
    flags = ("sft.yaml", "--training.max_steps", "14", "--training.load_best_model_at_end", "false")
    run_here(monkeypatch, "run_sft", *flags, "--training.output_dir", "sft_whole")
    for where, number in CUTS.values():
        with monkeypatch.context() as patch, pytest.raises(Killed):
            cut_at_call(patch, where, number)
            run_here(patch, "run_sft", *flags, "--training.output_dir", "sft_cut")
        assert is_unfinished("sft_cut")
    run_here(monkeypatch, "run_sft", *flags, "--training.output_dir", "sft_cut")
    said = capsys.readouterr().out
    assert weights("sft_cut") == weights("sft_whole")
    assert "continuing from sft_cut/checkpoint-9" in said and "continuing from sft_cut/checkpoint-14" in said
    assert "checkpoint-12 was not written to its end: removed" in said or "checkpoint-14 was not written" in said
    assert not is_unfinished("sft_cut")

    def steps(folder):
        return [(row["step"], row["eval_loss"]) for row in json.loads(Path(folder, "manifest.json").read_text())["evaluations"]]

    assert steps("sft_cut") == steps("sft_whole") and [step for step, _ in steps("sft_cut")] == [3, 6, 9, 12, 14]

    # the same command once more does nothing; another recipe is refused
    before = Path("sft_cut", "manifest.json").stat().st_mtime_ns
    run_here(monkeypatch, "run_sft", *flags, "--training.output_dir", "sft_cut")
    assert "nothing to do" in capsys.readouterr().out
    assert Path("sft_cut", "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"begun with something else: training.learning_rate 0.003 → 0.004; expected --resume"):
        run_here(monkeypatch, "run_sft", *flags, "--training.output_dir", "sft_cut", "--training.learning_rate", "4e-3")


def test_sigterm_saves_a_whole_checkpoint_and_asks_for_a_restart(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    flags = ("sft.yaml", "--training.max_steps", "8", "--training.output_dir")
    run_here(monkeypatch, "run_sft", *flags, "term_whole")
    for step in (4, 6):  # between two checkpoints, and at one, whose evaluation has to stand in it

        def preempted(watch, args, state, control, step=step, **_):
            if state.global_step == step - 1:
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setattr(OverfittingWatch, "on_step_begin", preempted)
            run_here(patch, "run_sft", *flags, "term_cut")
        assert end.value.code == RESTART == 143 and is_unfinished("term_cut")
        assert f"stopped by SIGTERM; term_cut/checkpoint-{step} is whole, the same command continues" in capsys.readouterr().out
        assert checkpoints("term_cut")[-1].name == f"checkpoint-{step}" and damage(f"term_cut/checkpoint-{step}") == {}
    run_here(monkeypatch, "run_sft", *flags, "term_cut")
    assert weights("term_cut") == weights("term_whole") and not is_unfinished("term_cut")
    states = [json.loads(Path(folder, "checkpoint-8/trainer_state.json").read_text()) for folder in ("term_cut", "term_whole")]
    losses = [[row["eval_loss"] for row in state["log_history"] if "eval_loss" in row] for state in states]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize("script", ["run_sft", "run_dpo"])
def test_twenty_kills_at_random_moments_lose_nothing(script, llama, tmp_path):
    place = make_place(tmp_path, llama)
    with ForkedRuns() as forked:
        if script == "run_dpo":
            assert forked.run("run_sft", ["sft.yaml", "--training.output_dir", "start"], place).status == 0
        recipe = f"{script[4:]}.yaml"
        whole = forked.run(script, [recipe, "--training.output_dir", "whole"], place)
        assert whole.status == 0, (place / "last.txt").read_text()
        kills, dice = 0, random.Random(7)
        wanted = weights(place / "whole")
        for number in range(100):
            status = -9
            while status == -9:
                moment = dice.uniform(0, whole.seconds) if kills < 20 else None
                status = forked.run(script, [recipe, "--training.output_dir", f"cut{number}"], place, moment).status
                kills += status == -9
            assert status == 0, (place / "last.txt").read_text()
            assert weights(place / f"cut{number}") == wanted
            if kills >= 20:
                return
        pytest.fail(f"only {kills} kills")


@pytest.mark.slow
def test_dpo_cut_off_ends_with_the_same_weights(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    run_here(monkeypatch, "run_sft", "sft.yaml", "--training.output_dir", "start")
    run_here(monkeypatch, "run_dpo", "dpo.yaml", "--training.output_dir", "dpo_whole")
    for where, number in CUTS.values():
        with monkeypatch.context() as patch, pytest.raises(Killed):
            cut_at_call(patch, where, number)
            run_here(patch, "run_dpo", "dpo.yaml", "--training.output_dir", "dpo_cut")
    run_here(monkeypatch, "run_dpo", "dpo.yaml", "--training.output_dir", "dpo_cut")
    assert weights("dpo_cut") == weights("dpo_whole")
    parent = json.loads(Path("dpo_cut", "manifest.json").read_text())["parent"]
    assert parent["stage"] == "sft" and len(parent["manifest_sha256"]) == 64


# Checkpoints ------------------------------------------------------------------------------------------------------------


def checkpoint(folder: Path, step: int, run_id: str | None = "run") -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "ref").mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(b"1234")
    (path / "ref" / "adapter_model.safetensors").write_bytes(b"12")
    (path / "trainer_state.json").write_text("{}")
    if run_id:
        mark_complete(path, run_id)
    return path


def test_the_last_whole_checkpoint_is_taken(tmp_path):
    for step in (2, 9, 10):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 11, run_id=None)
    checkpoint(tmp_path, 12, run_id="another run")
    (tmp_path / "checkpoint-best").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in (2, 9, 10, 11, 12)]
    assert last_complete(tmp_path, "run").name == "checkpoint-10" and damage(tmp_path / "checkpoint-10") == {}
    assert [path.name for path in half_written(tmp_path)] == ["checkpoint-11"]  # and not another run's
    (tmp_path / "checkpoint-10" / "align_ko_whole.json").write_text('{"run_id": "ru')
    assert last_complete(tmp_path, "run").name == "checkpoint-9"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda folder: (folder / "optimizer.pt").write_bytes(b"123"), "optimizer.pt has other bytes than when it was written"),
        (
            lambda folder: (folder / "optimizer.pt").write_bytes(b"1235"),
            "optimizer.pt has other bytes than when it was written",
        ),
    ],
)
def test_a_deleted_cut_or_changed_file_is_named(tmp_path, change, said):
    change(checkpoint(tmp_path, 2))
    assert damage(tmp_path / "checkpoint-2") == {"optimizer.pt": said}


def test_a_resumed_epoch_has_its_own_order_below_every_wrapper():
    class Rows(SequentialSampler):
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

    class Upstream:
        def _run_epoch(self, **kwargs):
            self.ran = kwargs["epoch"]

    class Trainer(ResumableTrainer, Upstream):
        state = SimpleNamespace(global_step=5, max_steps=9)
        control = SimpleNamespace(should_training_stop=False)
        ran = None

    rows = Rows(range(12))
    from accelerate.data_loader import SkipBatchSampler

    wrapped = SkipBatchSampler(BatchSamplerShard(BatchSampler(rows, 2, False), 2, 0), 1)
    trainer = Trainer()
    trainer._run_epoch(train_dataloader=SimpleNamespace(batch_sampler=wrapped), epoch=3)
    assert (rows.epoch, trainer.ran) == (3, 3)
    trainer.state.global_step, trainer.ran = 9, None  # the end was reached before: no step more
    trainer._run_epoch(train_dataloader=SimpleNamespace(batch_sampler=wrapped), epoch=4)
    assert trainer.ran is None and trainer.control.should_training_stop


# What is decided --------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A recipe whose run was begun and cut off after checkpoint-3; `decide(*flags)` is what the next start does."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("{}\n")
    Path("sft.yaml").write_text(
        "model: {model_name_or_path: owner/name}\ndata: {train_file: rows.jsonl, eval_file: rows.jsonl}\n"
        "training: {output_dir: out, learning_rate: 1e-4, hub_token: secret}\n"
    )

    monkeypatch.setattr(run_record, "describe_format", lambda tokenizer, eos: {"fingerprint": tokenizer.fingerprint})

    def decide(
        *flags: str, processes: int = 1, save: str = "steps", begin: bool = True, format: str = "f1", revision: str = "c1"
    ):
        recipe = load_recipe(SftRecipe, ["sft.yaml", *flags])
        given = recipe.training.get("resume_from_checkpoint")
        config = SimpleNamespace(
            output_dir="out", process_index=0, world_size=1, save_strategy=save, resume_from_checkpoint=given
        )
        if processes > 1:
            config.world_size = processes
            return run_record._decide(recipe, config, format, revision)
        tokenizer = SimpleNamespace(fingerprint=format, eos_token_id=1)
        run = open_run(recipe, config, tokenizer, ModelSource("owner/name", revision))
        if begin and not run.done:
            begin_run(run, config)
        return run

    Path("out").mkdir()
    run = decide()
    assert run.checkpoint is None and not run.done
    checkpoint(Path("out"), 3, run.run_id)
    return decide


def test_the_same_command_goes_on(begun):
    assert begun().checkpoint == "out/checkpoint-3"
    # what changes neither weights nor choice may change
    assert begun("--training.logging_steps", "7", "--training.report_to", "none", "--training.save_total_limit", "5").checkpoint
    assert begun("--training.resume_from_checkpoint", "true").checkpoint == "out/checkpoint-3"
    assert "secret" not in Path("out", RUN_FILE).read_text()


def test_a_half_written_checkpoint_is_removed_and_said(begun):
    checkpoint(Path("out"), 6, run_id=None)
    run = begun()
    assert run.checkpoint == "out/checkpoint-3" and run.message.startswith("checkpoint-6 was not written to its end: removed")
    assert [path.name for path in checkpoints("out")] == ["checkpoint-3"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--training.learning_rate", "2e-4"), "training.learning_rate 0.0001 → 0.0002"),
        (("--training.seed", "7"), r"training.seed \(not set\) → 7"),
        (
            ("--model.lora_target_modules", "[q_proj, v_proj]"),
            r"model.lora_target_modules \[q_proj, .*, down_proj\] → \[q_proj, v_proj\]",
        ),
        (("--model.lora_r", "8", "--early_stopping.patience", "3"), "model.lora_r 64 → 8, early_stopping.patience 1 → 3"),
    ],
)
def test_a_changed_recipe_is_refused_unless_told(begun, change, said):
    with pytest.raises(UserError, match=f"out: this run was begun with something else: {said}; expected --resume fresh"):
        begun(*change)
    assert begun(*change, "--resume", "force").checkpoint == "out/checkpoint-3"
    assert begun(*change).checkpoint == "out/checkpoint-3"  # forced once, the run is what it has become
    assert begun("--resume", "fresh").checkpoint is None and not checkpoints("out")


def test_changed_data_or_processes_are_refused(begun):
    with pytest.raises(UserError, match="processes 1 → 2"):
        begun(processes=2)
    Path("rows.jsonl").write_text("{}\n{}\n")
    with pytest.raises(UserError, match=r"data\.train_file has another content"):
        begun()
    run = begun("--resume", "replace")
    assert run.checkpoint is None and run.message.startswith("starting over (data.train_file has another content, ")
    checkpoint(Path("out"), 2, run.run_id)
    assert begun("--resume", "replace").checkpoint == "out/checkpoint-2"  # nothing changed since: it goes on


def test_a_finished_run_is_not_repeated_and_leaves_nothing_for_a_new_one(begun):
    run = begun()
    for name in ("manifest.json", "adapter_config.json", "model.safetensors"):
        Path("out", name).write_text("{}")
    finish_run(run)
    again = begun()
    assert again.done and "nothing to do" in again.message
    assert not begun("--resume", "fresh").done
    assert sorted(path.name for path in Path("out").iterdir()) == [
        RUN_FILE
    ]  # an old adapter beside a new model would be loaded


def test_without_checkpoints_it_starts_afresh_and_says_so(begun):
    run = begun("--resume", "fresh", save="no")
    assert run.message == "starting over; save_strategy is 'no': if this run is interrupted, it starts from the beginning"
    run = begun(save="no")
    assert run.checkpoint is None and "there is no checkpoint: starting afresh" in run.message


@pytest.mark.parametrize("mode", ["auto", "replace", "fresh", "force"])
def test_checkpoints_that_nobody_vouches_for_are_refused_and_kept(begun, mode):
    Path("out", RUN_FILE).unlink()
    with pytest.raises(UserError, match=r"out contains checkpoint-3 of a run that left no record.*another training.output_dir"):
        begun("--resume", mode)
    assert Path("out", "checkpoint-3", "optimizer.pt").is_file()


def test_a_checkpoint_that_lost_its_optimizer_is_kept(begun):
    """Deleted to save space: a tenth of the run's disk, and not a reason to throw the weights away."""
    run = begun()
    checkpoint(Path("out"), 6, run.run_id)
    for step in (3, 6):
        Path(f"out/checkpoint-{step}/optimizer.pt").unlink()
    said = r"out/checkpoint-6: the run cannot continue exactly: optimizer.pt is missing; nothing was removed; expected --resume"
    with pytest.raises(UserError, match=said):
        begun()
    assert [path.name for path in checkpoints("out")] == ["checkpoint-3", "checkpoint-6"]
    run = begun("--resume", "weights")
    assert (run.checkpoint, run.weights_alone) == ("out/checkpoint-6", True)
    assert run.message == "continuing from out/checkpoint-6 by its weights alone, with a new optimizer"
    assert json.loads(Path("out", RUN_FILE).read_text())["from_weights_alone"] == ["out/checkpoint-6"]
    checkpoint(Path("out"), 9, run.run_id)
    run = begun()
    assert run.checkpoint == "out/checkpoint-9" and not run.weights_alone
    assert json.loads(Path("out", RUN_FILE).read_text())["from_weights_alone"] == ["out/checkpoint-6"]
    assert [path.name for path in checkpoints("out")] == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]


def test_without_whole_weights_no_checkpoint_is_continued(begun):
    weights = Path("out/checkpoint-3/ref/adapter_model.safetensors")
    weights.write_bytes(b"13")
    for flags in ((), ("--resume", "weights"), ("--training.resume_from_checkpoint", "out/checkpoint-3")):
        with pytest.raises(UserError, match=r"ref/adapter_model.safetensors has other bytes .*; expected that file put back"):
            begun(*flags)
    assert weights.is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.unlink(), "adapter_model.safetensors is missing"),
        (
            lambda file: save_file({"weights": torch.zeros(1)}, file),
            "adapter_model.safetensors has other bytes than when it was",
        ),
        (
            lambda file: save_file({"weights": torch.ones(2)}, file),
            "adapter_model.safetensors has other bytes than when it was",
        ),
    ],
)
def test_a_finished_folder_is_believed_by_its_hashes(begun, change, said):
    Path("out", "adapter_config.json").write_text("{}")
    save_file({"weights": torch.ones(1)}, "out/adapter_model.safetensors")
    Path("out", "manifest.json").write_text(json.dumps({"files": result_marks("out")}))
    finish_run(begun())
    recipe = load_recipe(SftRecipe, ["sft.yaml", "--model.model_name_or_path", "out", "--training.output_dir", "next"])
    check_inputs(recipe)
    assert begun().done
    change(Path("out", "adapter_model.safetensors"))
    with pytest.raises(UserError, match=rf"out is not what its run saved: {said}"):
        check_inputs(recipe)
    run = begun()
    assert run.message.startswith(f"out was finished, but {said}") and run.message.endswith(
        ": it is saved again; continuing from out/checkpoint-3"
    )
    assert not run.done and is_unfinished("out")


def test_an_adapter_in_a_merged_folder_is_believed_by_the_manifest_above(tmp_path):
    for name in ("adapter/adapter_model.safetensors", "model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"weights")
    (tmp_path / "manifest.json").write_text(json.dumps({"files": result_marks(tmp_path)}))
    (tmp_path / "model.safetensors").unlink()
    assert result_problem(tmp_path / "adapter") == "" and result_problem(tmp_path) == "model.safetensors is missing"
    (tmp_path / "adapter/adapter_model.safetensors").write_bytes(b"weighed")
    assert result_problem(tmp_path / "adapter").startswith("adapter/adapter_model.safetensors has other bytes")


def test_sft_goes_on_by_weights_alone_at_the_learning_rate_of_that_step(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    flags = ("sft.yaml", "--training.output_dir", "alone", "--training.max_steps", "9")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        cut_at_call(patch, "transformers.trainer.Trainer.training_step", 14)  # past checkpoint-6
        run_here(patch, "run_sft", *flags)
    Path("alone/checkpoint-6/optimizer.pt").unlink()
    with pytest.raises(UserError, match=r"optimizer\.pt is missing"):
        run_here(monkeypatch, "run_sft", *flags)
    run_here(monkeypatch, "run_sft", *flags, "--resume", "weights")
    assert "continuing from alone/checkpoint-6 by its weights alone" in capsys.readouterr().out
    log = json.loads(Path("alone/checkpoint-9/trainer_state.json").read_text())["log_history"]
    rates = {entry["step"]: entry["learning_rate"] for entry in log if "learning_rate" in entry}
    assert rates == pytest.approx({step: 3e-3 * (9 - step + 1) / 9 for step in range(1, 10)})
    files = json.loads(Path("alone/manifest.json").read_text())["files"]
    assert {"adapter_model.safetensors", "adapter_config.json", "align_ko_format.json"} <= set(files)


def test_the_next_stage_does_not_take_an_unfinished_folder(begun):
    Path("out", "config.json").write_text("{}")
    recipe = load_recipe(SftRecipe, ["sft.yaml", "--model.model_name_or_path", "out", "--training.output_dir", "next"])
    with pytest.raises(UserError, match="the run in out has not finished"):
        check_inputs(recipe)
    finish_run(begun())
    check_inputs(recipe)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "f2"}, "the chat format f1 → f2"),  # another template or tokenizer under the same name
        ({"revision": "c2"}, "the base model's revision c1 → c2"),
        ({"flags": ("--training.eos_token", "</s>")}, r"training\.eos_token \(not set\) → </s>"),
        ({"flags": ("--training.pad_token", "<pad>")}, r"training\.pad_token \(not set\) → <pad>"),
    ],
)
def test_a_changed_format_or_revision_is_refused(begun, change, said):
    with pytest.raises(UserError, match=f"begun with something else: {said}; expected"):
        begun(*change.pop("flags", ()), **change)


def test_another_token_is_no_other_run_and_is_never_written(begun):
    assert begun("--training.hub_token", "other secret").checkpoint == "out/checkpoint-3"
    assert "secret" not in Path("out", RUN_FILE).read_text()


def test_a_run_refused_for_its_data_leaves_nothing_behind(tmp_path, begun):
    """The scripts begin a run after data and audit: the corrected command is no other run, and needs no --resume."""
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    Path("rows.jsonl").write_text("{}\n{}\n")
    assert begun("--resume", "replace", begin=False).starts_over  # and then the audit refuses the rows
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before
    Path("rows.jsonl").write_text("{}\n")
    assert begun().checkpoint == "out/checkpoint-3"


def test_sft_on_rows_that_are_refused_and_then_corrected(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    rows = Path("train.jsonl").read_text()
    flags = ("sft.yaml", "--training.output_dir", "corrected", "--training.max_steps", "1", "--training.save_strategy", "no")
    flags += ("--training.load_best_model_at_end", "false", "--data.train_file", "mine.jsonl")
    Path("mine.jsonl").write_text('{"id": "a", "messages": [{"role": "user", "content": "답이 없는 질문"}]}\n' * 8)
    with pytest.raises(UserError):
        run_here(monkeypatch, "run_sft", *flags)
    assert not Path("corrected", RUN_FILE).exists()
    Path("mine.jsonl").write_text(rows)
    run_here(monkeypatch, "run_sft", *flags)
    assert Path("corrected", "adapter_model.safetensors").is_file() and "resume" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "consolidated.00.pth", "model.gguf", "config.json"])
def test_weights_without_a_record_are_not_overwritten(begun, name):
    Path("out", RUN_FILE).unlink()
    Path("out", name).write_text("somebody's")
    for mode in ("auto", "replace", "fresh", "force"):
        with pytest.raises(UserError, match=f"out contains {name}, which no run of ours recorded"):
            begun("--resume", mode)
    assert Path("out", name).read_text() == "somebody's"


def test_killed_while_it_clears_the_folder_a_run_is_not_taken_for_finished(begun, monkeypatch):
    Path("out", "manifest.json").write_text("{}")
    finish_run(begun())
    with monkeypatch.context() as patch, pytest.raises(Killed):
        cut_at_call(patch, "align_ko.training.checkpoints.shutil.rmtree", 1)
        begun("--resume", "fresh")
    assert is_unfinished("out")
    assert begun().checkpoint in (None, "out/checkpoint-3")
