"""Write what the last `make quickstart` measured into README.md and README.ko.md, between their numbers:quickstart marks.

    python benchmarks/readme_numbers.py

Reads outputs/quickstart: evaluation/scores.json, times.tsv, and the peak memory in the manifests of the stages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro

from align_ko.errors import UserError, run_script
from align_ko.records import atomic_write
from align_ko.report.tables import MEASURE_LABELS, markdown_table, measure_cells

MARKS = ("<!-- numbers:quickstart -->", "<!-- /numbers:quickstart -->")
CAPTIONS = {  # what was measured; the table's decodings; the seconds; the memory
    "README.md": (
        "{n} held-out prompts that training never saw. `make quickstart` measured this on {cores} cores, "
        "`python benchmarks/readme_numbers.py` wrote it here. Shares in %, chars: median.",
        "Gap to the best sampling setting, in points: {gaps}.",
        "Seconds per stage, {minutes:.0f} minutes in all without the installation:",
        "Peak memory in GiB: {memory}.",
    ),
    "README.ko.md": (
        "학습에 쓰지 않은 프롬프트 {n}개로 평가했습니다. 코어 {cores}개에서 `make quickstart`로 측정하고 "
        "`python benchmarks/readme_numbers.py`로 옮긴 값입니다. 비율은 %, chars는 중앙값입니다.",
        "가장 나은 샘플링 설정과의 차이(포인트): {gaps}.",
        "단계별 시간(초)은 다음과 같으며, 설치를 빼고 모두 합해 {minutes:.0f}분입니다.",
        "최대 메모리(GiB): {memory}.",
    ),
}


def block(captions: tuple[str, ...], scores: Mapping[str, Any], times: Mapping[str, int], made: Mapping[str, Any]) -> str:
    """The Markdown between the marks. `made`: stage → its manifest."""
    facts = {
        "n": scores["results"][0]["n"],
        "cores": made["sft"]["machine"]["cores"],
        "gaps": ", ".join(f"{model} {gap['points']:.0f}" for model, gap in scores["decoding_gap"].items()) or "-",
        "minutes": sum(times.values()) / 60,
        "memory": ", ".join(f"{stage} {manifest['peak_memory_gib']:.1f}" for stage, manifest in made.items()),
    }
    head, gaps, seconds, memory = (caption.format(**facts) for caption in captions)
    rows = [[result["model"], result["decoding"], *measure_cells(result)] for result in scores["results"]]
    measures = markdown_table(["model", "decoding", *MEASURE_LABELS], rows)
    stages = markdown_table(list(times), [list(times.values())])
    return f"{head}\n\n{measures}\n{gaps}\n\n{seconds}\n\n{stages}\n{memory}"


def main(root: Path = Path(__file__).parents[1]) -> None:
    """Fill the marked blocks of the READMEs in `root` from its outputs/quickstart."""
    outputs = root / "outputs" / "quickstart"
    stages = {
        "sft": "sft/manifest.json",
        "preferences": "../../data/quickstart/preferences/manifest.json",
        "dpo": "dpo/manifest.json",
        "distil": "distilled/manifest.json",
        "evaluate": "evaluation/manifest.json",
    }
    names = ("evaluation/scores.json", "times.tsv", *stages.values())
    if missing := [name for name in names if not (outputs / name).is_file()]:
        raise UserError(
            f"{', '.join(missing)} not there", file=outputs, expected="the output of 'make quickstart' (run that first)"
        )
    scores, times, *manifests = ((outputs / name).read_text(encoding="utf-8") for name in names)
    made = {stage: json.loads(text) for stage, text in zip(stages, manifests, strict=True)}
    seconds: dict[str, int] = {}
    for line in times.splitlines():  # a stage that ran twice counts with its last run
        title, _, value = line.rpartition("\t")
        seconds[title] = int(value)
    for name, captions in CAPTIONS.items():
        text = (root / name).read_text(encoding="utf-8")
        if any(text.count(mark) != 1 for mark in MARKS):
            raise UserError(
                "the marks of the numbers block are not there once each", file=root / name, expected=" … ".join(MARKS)
            )
        before, rest = text.split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        filled = block(captions, json.loads(scores), seconds, made)
        with atomic_write(root / name) as out:
            out.write(f"{before}{MARKS[0]}\n{filled}\n{MARKS[1]}{after}")
        print(f"{root / name}: numbers written")


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
