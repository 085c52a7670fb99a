"""Write what the last `make quickstart` measured into docs/quickstart.md and its Korean twin, between their marks.

    python benchmarks/readme_numbers.py

Reads outputs/quickstart: scores.json and responses.jsonl of evaluation/, times.tsv, the peak memory in the stages' manifests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tyro

from align_ko.errors import UserError, run_script, visible
from align_ko.evaluation.scores import GREEDY_SETTING, chrf
from align_ko.records import atomic_write, last_user_text, read_jsonl
from align_ko.report.tables import MEASURE_LABELS, markdown_table, measure_cells

MARKS = ("<!-- numbers:quickstart -->", "<!-- /numbers:quickstart -->")
CAPTIONS = {  # what was measured; the gaps; the seconds; the memory; three answers
    "docs/quickstart.md": (
        "{n} held-out prompts that training never saw. `make quickstart` measured this on {cores} cores, "
        "`python benchmarks/readme_numbers.py` wrote it here. Shares in %, chars: median. "
        "Natural in form is a verdict of rules; what the answers say is in the columns beside it.",
        "Gap to the best sampling setting, in points: {gaps}.",
        "Seconds per stage, {minutes:.0f} minutes in all without the installation:",
        "Peak memory in GiB: {memory}.",
        "Three of the {answers} greedy answers of `{model}`, as they are: the first, the middle and the last by {order}.",
    ),
    "docs/quickstart.ko.md": (
        "학습에 쓰지 않은 프롬프트 {n}개로 평가했습니다. 코어 {cores}개에서 `make quickstart`로 측정하고 "
        "`python benchmarks/readme_numbers.py`로 옮긴 값입니다. 비율은 %, chars는 중앙값입니다. "
        "natural in form은 규칙이 내린 판정이며, 내용에 대한 판정은 그 옆의 열에 있습니다.",
        "가장 나은 샘플링 설정과의 차이(포인트): {gaps}.",
        "단계별 시간(초)은 다음과 같으며, 설치를 빼고 모두 합해 {minutes:.0f}분입니다.",
        "최대 메모리(GiB): {memory}.",
        "`{model}`의 그리디 답변 {answers}개를 {order} 차례로 놓고 맨 앞, 한가운데, 맨 뒤의 것을 그대로 옮겼습니다.",
    ),
}


ORDERS = {  # by whom the answers were judged
    "docs/quickstart.md": {
        "reader": "the reader's verdict, then chrF against the reference answer",
        "llm": "the llm's verdict, then chrF against the reference answer",
        "": "chrF against the reference answer, as nobody judged what they say",
    },
    "docs/quickstart.ko.md": {
        "reader": "독자 판정이 높은 차례로, 판정이 같으면 참조 답변과의 chrF가 높은",
        "llm": "LLM 판정이 높은 차례로, 판정이 같으면 참조 답변과의 chrF가 높은",
        "": "(내용은 판정하지 않았으므로) 참조 답변과의 chrF가 높은",
    },
}
TITLES = {
    "docs/quickstart.md": ("The best", "A typical one", "The worst"),
    "docs/quickstart.ko.md": ("가장 나은 답변", "보통 답변", "가장 나쁜 답변"),
}


def best_first(rows: Iterable[Mapping[str, Any]]) -> tuple[str, list[Mapping[str, Any]]]:
    """Who judged, and the judged answers by the lowest verdict, then by chrF; all by chrF where nobody did."""
    every = [row for row in rows if row["reference"]]
    judge = next((judge for judge in ("reader", "llm") if any(row.get(judge) for row in every)), "")
    judged = [row for row in every if row.get(judge)] if judge else every
    return judge, sorted(
        judged, key=lambda row: (-min(row.get(judge) or [0]), -chrf([row["response"]], [row["reference"]]), row["prompt_id"])
    )


def three_answers(name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Markdown of the best, a typical and the worst answer of the last model of `rows`, unedited."""
    greedy = [row for row in rows if (row["setting"], row["kind"]) == (GREEDY_SETTING, "heldout")]
    model = greedy[-1]["model"]
    judge, ranked = best_first(row for row in greedy if row["model"] == model)
    text = CAPTIONS[name][-1].format(answers=len(ranked), model=model, order=ORDERS[name][judge])
    for title, row in zip(TITLES[name], (ranked[0], ranked[len(ranked) // 2], ranked[-1]), strict=True):
        question, lines = " ".join(last_user_text(row["prompt"]).split()), visible(row["response"]).strip().splitlines()
        text += f"\n\n**{title}.** {visible(question)}\n\n" + "\n".join(f"> {line}".rstrip() for line in lines)
    return text


def block(name: str, scores: Mapping[str, Any], times: Mapping[str, int], made: Mapping[str, Any]) -> str:
    """The Markdown of the numbers for the page `name`. `made`: stage → its manifest."""
    facts = {
        "n": scores["results"][0]["n"],
        "cores": made["sft"]["machine"]["cores"],
        "gaps": ", ".join(f"{model} {gap['points']:.0f}" for model, gap in scores["decoding_gap"].items()) or "-",
        "minutes": sum(times.values()) / 60,
        "memory": ", ".join(f"{stage} {manifest['peak_memory_gib']:.1f}" for stage, manifest in made.items()),
    }
    head, gaps, seconds, memory = (caption.format(**facts) for caption in CAPTIONS[name][:4])
    rows = [[result["model"], result["decoding"], *measure_cells(result)] for result in scores["results"]]
    measures = markdown_table(["model", "decoding", *MEASURE_LABELS], rows)
    stages = markdown_table(list(times), [list(times.values())])
    return f"{head}\n\n{measures}\n{gaps}\n\n{seconds}\n\n{stages}\n{memory}"


def main(root: Path = Path(__file__).parents[1]) -> None:
    """Fill the marked blocks of the pages in `root` from its outputs/quickstart."""
    outputs = root / "outputs" / "quickstart"
    stages = {
        "sft": "sft/manifest.json",
        "preferences": "../../data/quickstart/preferences/manifest.json",
        "dpo": "dpo/manifest.json",
        "distil": "distilled/manifest.json",
        "evaluate": "evaluation/manifest.json",
    }
    names = ("evaluation/scores.json", "times.tsv", "evaluation/responses.jsonl", *stages.values())
    if missing := [name for name in names if not (outputs / name).is_file()]:
        raise UserError(
            f"{', '.join(missing)} not there", file=outputs, expected="the output of 'make quickstart' (run that first)"
        )
    scores, times, _, *manifests = ((outputs / name).read_text(encoding="utf-8") for name in names)
    made = {stage: json.loads(text) for stage, text in zip(stages, manifests, strict=True)}
    seconds: dict[str, int] = {}
    for line in times.splitlines():  # a stage that ran twice counts with its last run
        title, _, value = line.rpartition("\t")
        seconds[title] = int(value)
    rows = list(read_jsonl(outputs / "evaluation/responses.jsonl"))
    for name in CAPTIONS:
        text = (root / name).read_text(encoding="utf-8")
        if any(text.count(mark) != 1 for mark in MARKS):
            raise UserError(
                "the marks of the numbers block are not there once each", file=root / name, expected=" … ".join(MARKS)
            )
        before, rest = text.split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        filled = f"{block(name, json.loads(scores), seconds, made)}\n\n{three_answers(name, rows)}"
        with atomic_write(root / name) as out:
            out.write(f"{before}{MARKS[0]}\n{filled}\n{MARKS[1]}{after}")
        print(f"{root / name}: numbers written")


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
