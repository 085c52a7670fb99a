"""Judge Korean answers: which are natural, and what is wrong with the others.

    python scripts/assess.py answers.jsonl --output assessed.jsonl --summary
    python scripts/assess.py "안녕하세요. 안녕하세요. 제가 도와드리겠습니다."

Rows are `{"prompt"?, "response", "finished"?}` or `{"messages": [...]}` (the last assistant turn is judged).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from align_ko.errors import UserError, run_script, visible
from align_ko.korean import FAULT_CODES, Assessment, assess
from align_ko.records import read_jsonl, write_jsonl


def judge_row(row: dict[str, Any], place: Path, number: int, expected: Literal["polite"] | None) -> Assessment:
    """Assess one row of either shape."""
    if isinstance(row.get("response"), str):
        return assess(row["response"], row.get("prompt"), row.get("finished", True), expected)
    messages = row.get("messages")
    if isinstance(messages, list) and messages and messages[-1].get("role") == "assistant":
        asked = [message["content"] for message in messages[:-1] if message["role"] == "user"]
        return assess(messages[-1]["content"], asked[-1] if asked else None, row.get("finished", True), expected)
    wanted = "'response', or 'messages' that end with the assistant"
    raise UserError("no answer in this row", file=place, line=number, expected=wanted)


def underlined(text: str, assessment: Assessment) -> str:
    """The text with faults underlined in red (plain where the output is no terminal), then one line per fault."""
    colour = sys.stdout.isatty()
    marked = [any(f.start <= i < f.end for f in assessment.faults) for i in range(len(text))]
    signs = zip(map(visible, text), marked, strict=True)
    out = "".join(f"\033[4;31m{sign}\033[0m" if colour and hit else sign for sign, hit in signs)
    lines = [f"  {f.code:<18} {f.start}-{f.end}  {f.message}  「{text[f.start : f.end][:40]}」" for f in assessment.faults]
    verdict = "자연스럽습니다" if assessment.natural else "자연스럽지 않습니다"
    return "\n".join(
        [out, f"{verdict}  score {assessment.score:.2f}  speech level {assessment.speech_level}", *map(visible, lines)]
    )


def table(assessments: list[Assessment]) -> str:
    """`natural 83 of 97 (85.6 %)`, then one line per fault code and speech level."""
    total = len(assessments) or 1
    natural = sum(a.natural for a in assessments)
    lines = [f"answers {len(assessments)}   natural {natural} ({natural / total:.1%})"]
    lines += ["", f"{'fault':<20}{'answers':>8}"]
    counts = Counter(code for a in assessments for code in a.codes)
    lines += [f"{code:<20}{counts[code]:>8}{counts[code] / total:>8.1%}" for code in FAULT_CODES if counts[code]]
    lines += ["", f"{'speech level':<20}{'answers':>8}"]
    levels = Counter(a.speech_level for a in assessments).most_common()
    return "\n".join(lines + [f"{level:<20}{count:>8}{count / total:>8.1%}" for level, count in levels])


def main(
    target: Annotated[str, tyro.conf.Positional],
    /,
    output: Path | None = None,
    summary: bool = False,
    expected: Literal["polite", "any"] = "polite",
) -> None:
    """Judge a JSONL file or a text.

    Args:
        target: A .jsonl file, or the text itself.
        output: Where to write the rows with natural, score, faults and speech_level added.
        summary: Print the table of faults.
        expected: Wanted speech level.
    """
    wanted: Literal["polite"] | None = "polite" if expected == "polite" else None
    if not target.endswith((".jsonl", ".json")):
        print(underlined(target, assess(target, expected=wanted)))
        return
    path, seen = Path(target), []
    if output and output.exists() and output.samefile(path):
        raise UserError("this is the file to judge", file=output, key="--output", expected="another file")

    def judged() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read_jsonl(path), 1):
            result = judge_row(row, path, number, wanted)
            seen.append(result)
            yield row | asdict(result)

    if output:
        write_jsonl(output, judged())
    else:
        list(judged())
    if summary or not output:
        print(table(seen))


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main))
