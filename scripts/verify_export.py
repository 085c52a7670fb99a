"""Does an export still answer as its checkpoint did?

    align-ko export --verify outputs/quickstart/export
    align-ko export --verify outputs/solar/export --endpoint http://localhost:8000/v1 --endpoint-model export --server vllm

Fixed conversations go through llama.cpp's template engine and the Modelfile's and must give our token ids. The prompts are
answered greedily by the checkpoint, the folder, its GGUF files under llama.cpp, `transformers serve` and, with --endpoint, a
server that runs already. Exit 1 where a template differs, the folder answers otherwise, or an engine falls too far.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import tyro

from align_ko.errors import UserError, run_script
from align_ko.manifest import MANIFEST_FILE, read_manifest
from align_ko.recipe.preferences import Server


def main(
    folder: Annotated[str, tyro.conf.Positional],
    checkpoint: str = "",
    prompts: str = "core",
    max_prompts: int = 0,
    max_new_tokens: int = 256,
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto",
    max_drop: float = 2.0,
    skip_serve: bool = False,
    endpoint: str = "",
    endpoint_model: str = "",
    server: Server = "vllm",
) -> None:
    """Check an export against its checkpoint.

    Args:
        folder: what export.py wrote.
        checkpoint: what it was made from; by default what its manifest says.
        prompts: a suite (core, multi_turn, instructions) or a file of prompts.
        max_prompts: how many of them, from the first one on; 0 for all.
        max_new_tokens: longest answer in tokens.
        dtype: number format of checkpoint and folder; auto is the export's own.
        max_drop: points that an engine's natural share may lie below the checkpoint's.
        skip_serve: leave `transformers serve` out.
        endpoint: the address of a server that serves the export, ending in /v1.
        endpoint_model: the name under which it serves it; by default the folder.
        server: what kind of server that is.
    """
    from align_ko.models.source import check_named
    from align_ko.process import quiet_known_noise

    place = Path(folder)
    if not (place / "config.json").is_file():
        raise UserError(f"{folder} is no exported model", key="--verify", expected="the output_dir of export.py")
    quiet_known_noise()
    made = read_manifest(place)
    source = checkpoint or made.get("parent") or ""
    if not source:
        problem = "nothing says which checkpoint it was made from"
        raise UserError(problem, file=place / MANIFEST_FILE, expected="--checkpoint FOLDER")
    check_named(source, "--checkpoint")

    from rich.console import Console

    from align_ko.evaluation.exported import check_export
    from align_ko.evaluation.suites import read_suites
    from align_ko.models.source import model_source
    from align_ko.recipe import EndpointArgs, GenerationArgs
    from align_ko.records import write_json
    from align_ko.report.exported import faults_of, table_of

    own = (made.get("recipe") or {}).get("dtype", "auto")
    generation = GenerationArgs(max_new_tokens=max_new_tokens, dtype=own if dtype == "auto" else dtype)
    rows = read_suites(prompts, max_prompts)
    args = EndpointArgs(endpoint, endpoint_model or folder, server=server, send="messages") if endpoint else None
    check = check_export(place, model_source(source), rows, generation, args, serve=not skip_serve)
    write_json(place / "verification.json", asdict(check))
    Console().print(table_of(check))
    print(f"differences: {place / 'verification.json'}")
    if faults := faults_of(check, max_drop):
        print("\n".join(f"FAULT {fault}" for fault in faults), file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
