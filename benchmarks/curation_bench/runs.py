"""The two runs over the same rows: our curation, and datatrove's filters and MinHash."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from curation_bench.faults import EVALUATION_FILE
from curation_bench.generate import DATASET, lines_of
from curation_bench.process_tree import Usage, run_measured
from curation_bench.units import ROOT

PROCESSES = 2


def run_ours(folder: Path, output: Path, path: Path | None = None, **options: object) -> Usage:
    """`build_sft_data.py` with the SOLAR recipe on these rows; `options`: further keys of the recipe."""
    output.mkdir(parents=True, exist_ok=True)
    recipe: dict[str, Any] = {
        "extends": str(ROOT / "recipes/solar/data.yaml"),
        "sources": {"korean_large_dataset": {"path": str(path or folder / DATASET)}},
        "output_dir": str(output / "sft"),
        "evaluation_files": [str(EVALUATION_FILE)],
        "num_proc": PROCESSES,
        **options,
    }
    path = output / "data.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return run_measured([sys.executable, str(ROOT / "scripts/build_sft_data.py"), str(path)], output / "ours.log", ROOT)


def run_datatrove(python: Path, folder: Path, output: Path) -> tuple[Usage, dict[str, Any], int]:
    """(use, what datatrove_run.py reports, rows that were no conversation and that it was not given)."""
    documents = output / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    left_out = write_documents(folder, documents)
    script = Path(__file__).with_name("datatrove_run.py")
    usage = run_measured([str(python), str(script), str(documents), str(output)], output / "datatrove.log", ROOT)
    return usage, json.loads((output / "result.json").read_text(encoding="utf-8")), left_out


def write_documents(folder: Path, documents: Path) -> int:
    """A conversation as one text, in a file per worker; not part of the timed run. Returns the rows that cannot be one."""
    files = [(documents / f"{worker}.jsonl").open("w", encoding="utf-8") for worker in range(PROCESSES)]
    left_out = 0
    for number, line in enumerate(lines_of(folder), 1):
        try:
            text = "\n\n".join(message["content"] for message in json.loads(line)["messages"])
        except (ValueError, KeyError, TypeError):
            left_out += 1
            continue
        json.dump({"text": text, "id": str(number)}, file := files[number % PROCESSES], ensure_ascii=False)
        file.write("\n")
    for file in files:
        file.close()
    return left_out
