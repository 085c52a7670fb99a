"""Every file of accelerate_configs/ through accelerate's own parser, and what its launcher hands to the processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from conftest import make_llama, other_rows, rows
from endpoint_servers import free_port
from torch.utils import cpp_extension
from trl import SFTConfig

from align_ko.errors import RESTART, UserError
from align_ko.process import prepare_compiling
from align_ko.records import write_jsonl
from align_ko.training.prepare import training_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "accelerate_configs"
KINDS = {"cpu": "NO", "single_gpu": "NO", "ddp": "MULTI_GPU", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED",
         "zero3_offload": "DEEPSPEED", "fsdp": "FSDP"}  # fmt: skip
ZERO = {"zero2": ("2", "none", "false"), "zero3": ("3", "none", "true"), "zero3_offload": ("3", "cpu", "true")}


def launched(name: str, *flags: str):
    """The launcher's arguments after it has read the file."""
    args = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), *flags, "script.py"])
    return _validate_launch_command(args)[0]


def test_these_are_the_files():
    assert {path.stem for path in FOLDER.iterdir()} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_knows_every_key(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))  # raises for a key that it does not know
    assert config.distributed_type.value == KINDS[name]
    assert config.num_processes == (1 if KINDS[name] == "NO" else 2) and config.num_machines == 1
    assert config.use_cpu is (name == "cpu") and config.mixed_precision == ("no" if name == "cpu" else "bf16")
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for part in ("deepspeed_config", "fsdp_config"):
        for key, value in written.get(part, {}).items():
            assert getattr(config, part)[key] == value
            assert hasattr(launched(name), key), key  # accelerate passes keys of these parts on without looking


@pytest.mark.parametrize("name", ZERO)
def test_the_processes_are_told_their_zero_stage(name):
    args = launched(name)
    args.deepspeed_fields_from_accelerate_config = ""  # accelerate's launch_command sets it just before
    _, environment = prepare_deepspeed_cmd_env(args)
    stage, offload, init = ZERO[name]
    assert environment["ACCELERATE_USE_DEEPSPEED"] == "true" and environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == stage
    assert environment["ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"] == offload
    assert environment["ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE"] == offload
    assert environment["ACCELERATE_DEEPSPEED_ZERO3_INIT"] == init
    saved = environment.get("ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL")
    assert saved == ("true" if stage == "3" else None)


def test_the_processes_are_told_fsdp2(monkeypatch):
    environment = prepare_multi_gpu_env(launched("fsdp"))
    for key, value in environment.items():
        if key.startswith(("FSDP", "ACCELERATE")):
            monkeypatch.setenv(key, value)
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT" and plugin.cpu_ram_efficient_loading is True
    assert plugin.activation_checkpointing is False


def test_one_process_and_more_processes():
    assert launched("ddp", "--num_processes", "4").num_processes == 4
    assert launched("ddp").multi_gpu and not launched("single_gpu").multi_gpu
    _, environment = prepare_simple_launcher_cmd_env(launched("cpu"))
    assert environment["ACCELERATE_USE_CPU"].lower() == "true" and environment["ACCELERATE_MIXED_PRECISION"] == "no"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there FSDP is what runs")
def test_fsdp_without_an_accelerator_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UserError, match="accelerate would train with DDP, the whole model in each process"):
        training_config(SFTConfig, {"output_dir": str(tmp_path)}, "float32")


# Two processes on this CPU -----------------------------------------------------------------------------------------------


def on_the_cpu(name: str, folder: Path) -> str:
    """The config of two GPUs, its GPUs taken for this CPU (in the file: with `--cpu` accelerate starts one process)."""
    text = (FOLDER / f"{name}.yaml").read_text()
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("use_cpu: false", "use_cpu: true").replace("mixed_precision: bf16", 'mixed_precision: "no"'))
    return str(path)


def start(place: Path, *command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUNBUFFERED": "1"}
    environment["DS_ACCELERATOR"] = "cpu"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *command], cwd=place, env=environment, text=True, stdout=pipe, stderr=pipe, start_new_session=True
    )


def ended(started: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, err = started.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)  # the launcher alone would leave its processes running
        raise
    return subprocess.CompletedProcess(started.args, started.returncode, out, err)


def launch(place: Path, name: str, *command: str) -> subprocess.CompletedProcess[str]:
    return ended(start(place, "-m", "accelerate.commands.launch", "--config_file", on_the_cpu(name, place), *command))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("accelerate")
    make_llama(folder / "llama")
    write_jsonl(folder / "train.jsonl", rows())
    write_jsonl(folder / "eval.jsonl", other_rows(3))
    (folder / "machine.py").write_text(MACHINE)
    return folder


SFT = (str(ROOT / "scripts/run_sft.py"), str(ROOT / "recipes/solar/sft.yaml"), "--data.train_file", "train.jsonl",
       "--data.eval_file", "eval.jsonl", "--model.load_in_4bit", "false", "--model.dtype", "float32", "--training.bf16",
       "false", "--training.max_steps", "4", "--training.eval_steps", "2", "--training.save_steps", "2",
       "--training.warmup_steps", "0", "--gate.prompts", "0", "--training.metric_for_best_model", "eval_loss",
       "--training.per_device_train_batch_size", "2", "--training.gradient_accumulation_steps", "1")  # fmt: skip


MACHINE = """
import os, runpy, signal, sys
from align_ko.training.checkpoints import StopOnSigterm

number, step, script, *words = sys.argv[1:]
def stopped(callback, args, state, control, then=StopOnSigterm.on_step_end, **_):
    if os.environ["RANK"] == "1" and state.global_step == int(step):
        os.kill(os.getppid(), int(number))
        if int(number) == signal.SIGKILL:  # with the launcher the whole machine goes
            os.kill(os.getpid(), signal.SIGKILL)
        while not callback.asked:
            signal.pause()
    then(callback, args, state, control)
StopOnSigterm.on_step_end = stopped
sys.argv = [script, *words]
runpy.run_path(script, run_name="__main__")
"""


def two_machines(place: Path, name: str, *command: str) -> list[subprocess.CompletedProcess[str]]:
    """Two launches that meet on 127.0.0.1, with one process each."""
    machines = ("--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port()))
    at = [str(ROOT / "scripts/launch.py"), "--config_file", on_the_cpu(name, place), *machines]
    started = [start(place, *at, "--machine_rank", rank, *command) for rank in "01"]
    return [ended(each) for each in started]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes on one CPU")
@pytest.mark.parametrize(
    ("name", "flags", "stop"),
    [
        ("ddp", (), signal.SIGKILL),
        ("zero2", (), signal.SIGTERM),
        ("zero3", ("--model.use_rslora", "true"), signal.SIGTERM),
        ("zero3", ("--model.use_dora", "true"), None),
        ("zero3_offload", (), None),
    ],
)
def test_lora_with_two_processes_saves_a_full_adapter(place, name, flags, stop):
    """And the same one where they run on two machines, one is stopped (pre-empted or dead), and both are started again."""
    from safetensors.torch import load_file

    output = "_".join((name, *flags[:1])).replace("--model.", "")
    command = (*SFT, "--model.model_name_or_path", str(place / "llama"), *flags, "--training.output_dir")
    done = launch(place, name, *command, output)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    weights = load_file(place / output / "adapter_model.safetensors")
    dora = "--model.use_dora" in flags
    assert len(weights) == 2 * 7 * (3 if dora else 2)  # two layers, seven modules: A, B and DoRA's magnitudes
    for key, weight in weights.items():
        assert weight.numel() > 0 and weight.isfinite().all() and weight.abs().max() > 0, key  # B starts at zero
    state = json.loads((place / output / "checkpoint-4/trainer_state.json").read_text())
    assert state["epoch"] == pytest.approx(4 / 3)  # 9 rows on two processes are 3 steps; alone it would be .8
    assert done.stdout.count(f"saved {output}") == 1
    if stop is None:
        return
    output += "_cut"
    first, second = two_machines(place, name, "machine.py", str(int(stop)), "3", *command, output)
    told = first.stdout[-2000:] + first.stderr[-4000:] + second.stderr[-4000:]
    if stop == signal.SIGTERM:  # to one machine: both save and ask for a restart
        assert (first.returncode, second.returncode) == (RESTART, RESTART), told
        assert f"stopped by SIGTERM; {output}/checkpoint-3 is whole" in first.stdout
    else:
        assert first.returncode not in (0, RESTART) and second.returncode == -signal.SIGKILL, told
    for each in two_machines(place, name, *command, output):
        assert each.returncode == 0, each.stdout[-2000:] + each.stderr[-4000:]
        assert ("continuing from" in each.stdout) == (f"saved {output}" in each.stdout)  # the first process speaks
    again = load_file(place / output / "adapter_model.safetensors")
    assert again.keys() == weights.keys() and all(torch.equal(again[key], weights[key]) for key in weights)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there FSDP is what runs")
def test_canary_accelerate_leaves_fsdp_out_on_a_cpu(place):
    """When this fails, FSDP2 can have a test of two CPU processes like the others, and training_config its refusal removed."""
    program = "import sys\nfrom accelerate import Accelerator\nsys.stdout.write(Accelerator().distributed_type.value + '\\n')\n"
    (place / "kind.py").write_text(program)
    done = launch(place, "fsdp", "kind.py")
    assert done.stdout.split() == ["NO", "NO"], done.stderr[-3000:]


def test_deepspeed_compiles_where_torchs_path_has_a_space(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(cpp_extension, "TORCH_LIB_PATH", "/my work/torch/lib")
    flags = cpp_extension._prepare_ldflags([], False, False, False, False)
    assert "-L/my work/torch/lib" in flags  # the canary: quoted by torch itself, ours can go
    for _ in range(2):
        prepare_compiling()
        assert "-L'/my work/torch/lib'" in cpp_extension._prepare_ldflags([], False, False, False, False)


def test_a_compilation_lock_that_a_killed_run_left_is_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "ext"))
    lock = tmp_path / "ext" / "cpu_adam" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (time.time() - 1500, time.time() - 1500))
    training_config(dict, {}, "float32")
    assert capsys.readouterr().err == ""  # without DeepSpeed nobody waits for it
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with lock.open():  # as torch holds it while it compiles
        training_config(dict, {}, "float32")
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {lock} is 25 minutes old; another run may be compiling.")
    assert told.endswith(f"remove it: rm '{lock}'\n")
    assert lock.exists()
    training_config(dict, {}, "float32")
    assert capsys.readouterr().err.startswith(f"warning: {lock} was 25 minutes old and held by nobody")
    assert not lock.exists()
    lock.touch()  # young: another machine with this home may have begun
    training_config(dict, {}, "float32")
    assert capsys.readouterr().err.startswith(f"warning: {lock} is 0 s old; another run may be compiling.")
    assert lock.exists()
