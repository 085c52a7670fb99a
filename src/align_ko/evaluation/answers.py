"""One model's answers to the evaluation prompts under one decoding setting, kept in a file for reruns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.generation.local import describe, generate_answers
from align_ko.recipe import DecodingArgs, GenerationArgs
from align_ko.records import Message, content_id, read_jsonl, write_jsonl


@dataclass(frozen=True)
class Question:
    prompt: list[Message]
    id: str
    group: str
    topic: str
    reference: str | None


def load_questions(path: str, most: int = 0) -> list[Question]:
    """The first `most` rows of `messages` (0: all); a closing assistant turn is the reference, all before it the prompt."""
    questions = []
    for number, row in enumerate(islice(read_jsonl(path), most or None), 1):
        messages = row.get("messages")
        if not isinstance(messages, list) or not messages:
            raise UserError("row has no messages", file=path, line=number, expected="{'messages': [{'role', 'content'}, …]}")
        has_reference = messages[-1]["role"] == "assistant"
        prompt = messages[:-1] if has_reference else messages
        questions.append(
            Question(
                prompt,
                row.get("id") or content_id(prompt),
                row.get("group", ""),
                row.get("topic", ""),
                messages[-1]["content"] if has_reference else None,
            )
        )
    return questions


def answer_all(
    model: Any,
    tokenizer: Any,
    questions: list[Question],
    name: str,
    setting: str,
    decoding: DecodingArgs,
    generation: GenerationArgs,
    cache: Path,
    checkpoint: str,
) -> list[dict[str, Any]]:
    """Rows for responses.jsonl. A cache that was made by the same checkpoint, decoding and prompts is used as it is."""
    key = {
        "checkpoint": checkpoint,
        "decoding": describe(decoding),
        "max_new_tokens": generation.max_new_tokens,
        "seed": generation.seed,
        "prompts": [question.id for question in questions],
    }
    if cache.is_file():
        saved = list(read_jsonl(cache))
        if saved and saved[0] == json.loads(json.dumps(key)):
            return saved[1:]
    print(f"{name}: {len(questions)} answers, {describe(decoding)}", flush=True)
    answers = generate_answers(
        model,
        tokenizer,
        [question.prompt for question in questions],
        decoding,
        generation.max_new_tokens,
        generation.batch_size,
        generation.seed,
    )
    rows = [
        {
            "model": name,
            "setting": setting,
            "decoding": describe(decoding),
            "kind": "probe" if question.group == "probe" else "heldout",
            "prompt": question.prompt,
            "prompt_id": question.id,
            "group": question.group,
            "topic": question.topic,
            "reference": question.reference,
            "response": answer.text,
            "finished": answer.finished,
            "tokens": answer.tokens,
        }
        for question, answer in zip(questions, answers, strict=True)
    ]
    write_jsonl(cache, [key, *rows])
    return rows
