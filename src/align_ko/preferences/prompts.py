"""The prompts that preference pairs are made for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.records import Message, content_id, prompt_and_reference, read_jsonl


@dataclass(frozen=True)
class Task:
    """One prompt, with the answer that a person wrote for it where there is one."""

    id: str
    prompt: list[Message]
    reference: str | None


def tasks_from_rows(rows: Iterable[dict[str, Any]], max_prompts: int = 0, file: str | Path | None = None) -> list[Task]:
    """Rows → prompts and references, each prompt once, in a stable shuffled order.

    `{"id": "9f2c", "messages": [user "안녕하세요", assistant "안녕하세요!"]}` → the prompt without its last assistant turn,
    which is the reference. Without such a turn, or as `{"prompt": "안녕하세요"}`, a row has no reference. A row without an id
    gets the hash of its prompt. The order is by hash: it mixes the groups, and a longer list begins with the shorter one.
    Raises UserError for a row that is none of these (`file` and its line, counted without empty lines).
    """
    tasks: dict[str, Task] = {}
    for number, row in enumerate(rows, 1):
        task = _task(row)
        if task is None:
            wanted = "{'messages': [{'role', 'content'}, …]} or {'prompt': text or messages}"
            raise UserError("this row holds no prompt", file=file, line=number, expected=wanted)
        tasks.setdefault(task.id, task)  # an upsampled row stands several times in its file
    ordered = sorted(tasks.values(), key=lambda task: hashlib.sha256(("prompts" + task.id).encode()).digest())
    return ordered[:max_prompts] if max_prompts else ordered


def _task(row: Any) -> Task | None:
    found = prompt_and_reference(row)
    return Task(str(row.get("id") or content_id(found[0])), *found) if found else None


def read_tasks(path: str, skip_files: Iterable[str] = ()) -> tuple[list[Task], int]:
    """The prompts of a file, and how many were left out because their row or their prompt stands in one of `skip_files`."""
    tasks = tasks_from_rows(read_jsonl(path), file=path)
    skip: set[str] = set()
    for file in skip_files:
        skip.update(
            name for task in tasks_from_rows(read_jsonl(file), file=file) for name in (task.id, content_id(task.prompt))
        )
    kept = [task for task in tasks if task.id not in skip and content_id(task.prompt) not in skip]
    return kept, len(tasks) - len(kept)
