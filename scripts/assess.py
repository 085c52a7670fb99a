"""Judge Korean answers: which are natural, and what is wrong with the others.

    python scripts/assess.py answers.jsonl --output assessed.jsonl --summary
    python scripts/assess.py "안녕하세요. 안녕하세요. 제가 도와드리겠습니다."

Files are those that curation reads, and the responses.jsonl of an evaluation; of a conversation the last answer is judged.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from align_ko.adapters import Rejection, adapt
from align_ko.errors import UserError, run_script, visible, warn
from align_ko.korean import FAULT_CODES, Assessment, assess
from align_ko.records import last_user_text, parse_prompt, write_jsonl
from align_ko.sources import RawRow, find_path, read_source


def judge_row(raw: RawRow, expected: Literal["polite"] | None) -> Assessment:
    """Assess one row: `{"prompt"?, "response", "finished"?}` or any shape of a conversation."""
    row = raw.value if isinstance(raw.value, dict) else {}
    messages = adapt(raw.value)
    if isinstance(row.get("response"), str):
        asked = parse_prompt(row)
        answer, messages = row["response"], asked.prompt if asked else []
    elif isinstance(messages, Rejection) or not messages or messages[-1]["role"] != "assistant":
        why = f": {messages.detail}" if isinstance(messages, Rejection) else ""
        wanted = "'response', or a conversation that ends with the assistant"
        raise UserError(f"no answer in this row{why}", file=raw.file, line=raw.line, expected=wanted)
    else:
        answer = messages[-1]["content"]
    return assess(answer, last_user_text(messages) or None, row.get("finished") is not False, expected)


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
    """Judge a file of answers, or a text.

    Args:
        target: A file of rows (JSON, JSONL, CSV, Parquet, …), or the text itself.
        output: Where to write the rows with natural, score, faults and speech_level added.
        summary: Print the table of faults.
        expected: Wanted speech level.
    """
    wanted: Literal["polite"] | None = "polite" if expected == "polite" else None
    path, seen = find_path(target), []
    if not os.path.exists(path):
        if re.search(r"\.[A-Za-z]\w{1,6}$", target) or re.fullmatch(r"[^\s.]*[/\\]\S*", target):  # a file's name is no answer
            raise UserError("file not found", file=target)
        print(underlined(target, assess(target, expected=wanted)))
        return

    def judged() -> Iterator[dict[str, Any]]:
        for raw in read_source(str(path)):
            if raw.problem:
                warn(f"{raw.file}:{raw.line}: left out: {raw.problem}")
                continue
            result = judge_row(raw, wanted)
            seen.append(result)
            yield (raw.value if isinstance(raw.value, dict) else {}) | asdict(result)

    if output:
        write_jsonl(output, judged())
    else:
        list(judged())
    if not seen:
        raise UserError("no answer can be read", file=target)
    if summary or not output:
        print(table(seen))


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main))
