"""scripts/quickstart.sh: which stages it runs, with a Python that only writes down what it was asked and leaves the markers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKERS = {
    "prepare_model": "cache/quickstart-model/config.json",
    "spoil": "data/quickstart/spoilt.key.jsonl",
    "build_sft_data": "data/quickstart/sft/report.json",
    "run_sft sft": "outputs/quickstart/sft/manifest.json",
    "build_preferences": "data/quickstart/preferences/manifest.json",
    "run_dpo": "outputs/quickstart/dpo/manifest.json",
    "evaluate own_answers": "outputs/quickstart/own_answers/manifest.json",
    "run_sft distill": "outputs/quickstart/distilled/manifest.json",
    "evaluate": "outputs/quickstart/evaluation/manifest.json",
}
ALL = list(MARKERS)
PYTHON = """#!/bin/bash
name=$(basename "$1" .py)
case "$name $2" in *run_sft*distill*|*run_sft*/sft.yaml|*own_answers*) name="$name $(basename "$2" .yaml)" ;; esac
echo "$name" >>asked
if [ "$name" = "$FAILS" ]; then exit 2; fi
case $name in
"""


@pytest.fixture
def quickstart(tmp_path):
    """Runs the script in a checkout of its own; returns the stages that it ran."""
    home = tmp_path / "a checkout"
    (home / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "quickstart.sh", home / "scripts")
    shutil.copytree(ROOT / "recipes" / "quickstart", home / "recipes" / "quickstart")
    touch = "".join(f'"{name}") mkdir -p "{Path(file).parent}"; touch "{file}" ;;\n' for name, file in MARKERS.items())
    python = home / "python"
    python.write_text(PYTHON + touch + "esac\n")
    python.chmod(0o755)

    def run(*arguments, fails="", code=0):
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "FAILS": fails}
        environment |= {"PYTHON": str(python), "ALIGN_KO_CACHE": str(home / "cache")}
        (home / "asked").unlink(missing_ok=True)
        command = ["bash", "scripts/quickstart.sh", *arguments]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return (home / "asked").read_text().splitlines() if (home / "asked").exists() else []

    run.home = home
    return run


def test_every_stage_runs_once(quickstart):
    assert quickstart() == ALL
    assert quickstart() == []


def test_a_stage_that_failed_is_the_first_of_the_next_run(quickstart):
    assert quickstart(fails="run_dpo", code=2) == ALL[:6]
    assert quickstart() == ALL[5:]


def test_a_training_run_killed_after_its_manifest_runs_again(quickstart):
    quickstart()
    record = quickstart.home / "outputs" / "quickstart" / "dpo" / "training_run.json"
    record.write_text('{\n  "started": 1.0,\n  "finished": null\n}\n')
    assert quickstart() == ALL[5:]
    record.write_text('{\n  "started": 1.0,\n  "finished": 2.0\n}\n')
    assert quickstart() == []


def test_up_to_a_stage_only_what_is_missing(quickstart):
    assert quickstart("SFT") == ALL[:4]
    assert quickstart("SFT") == []
    later = (quickstart.home / "outputs/quickstart/sft/manifest.json").stat().st_mtime + 60
    os.utime(quickstart.home / "recipes" / "quickstart" / "sft.yaml", (later, later))
    assert quickstart("SFT") == []  # align.py and its like start from the model that is there, as when called by hand
    assert quickstart("preferences") == ALL[4:5]
    (quickstart.home / MARKERS["run_sft sft"]).unlink()
    assert quickstart("DPO") == ALL[3:6]
    assert quickstart() == ALL  # the recipe is newer than all of it


def test_an_unknown_stage_is_refused(quickstart):
    assert quickstart("dpo", code=2) == []
