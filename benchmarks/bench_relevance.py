"""Does pointwise mutual information tell an answer from another question's, and sense from nonsense? AUCs by any causal model.

    python benchmarks/bench_relevance.py outputs/quickstart/evaluation/responses.jsonl outputs/quickstart/sft quickstart
    python benchmarks/bench_relevance.py data/quickstart/sft/preferences.jsonl outputs/quickstart/sft   # references alone

References beside the references of other questions, and beside each model's greedy answers where the file has any. An AUC of 1:
every reference scores above; .5: chance. Which models have seen the references in training is for you to know.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from align_ko.generation.relevance import LEAST, Question, relevance
from align_ko.models.load import load_for_inference
from align_ko.process import quiet_known_noise
from align_ko.records import read_jsonl, read_prompts


def auc(higher: list[float], lower: list[float]) -> float:
    """How often a value of `higher` is above one of `lower`, ties half.

    >>> auc([2.0, 1.0], [1.0, 0.0])
    0.875
    """
    one, other = np.array(higher)[:, None], np.array(lower)[None, :]
    return float(((one > other) + 0.5 * (one == other)).mean())


def main() -> None:
    quiet_known_noise()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="responses.jsonl of an evaluation, or prompts with references")
    parser.add_argument("models", nargs="+", help="checkpoints to measure with")
    parser.add_argument("--most", type=int, default=0, help="of the prompts; 0 = all")
    args = parser.parse_args()

    answers: dict[str, list[Question]] = {}
    references: dict[str, Question] = {}
    if args.rows.endswith("responses.jsonl"):
        for row in read_jsonl(args.rows):
            if row["kind"] == "heldout" and row["setting"] == "greedy" and row["reference"]:
                references[row["prompt_id"]] = row["prompt"], row["reference"]
                answers.setdefault(row["model"], []).append((row["prompt"], row["response"]))
    else:
        references = {row.id: (row.prompt, row.reference) for row in read_prompts(args.rows) if row.reference}
    own = list(references.values())[: args.most or None]
    shift = len(own) // 2
    strange = [(own[number - shift][0], answer) for number, (_, answer) in enumerate(own)]
    for path in args.models:
        model, tokenizer = load_for_inference(path)

        def values(questions: list[Question]) -> list[float]:
            return [nats or 0.0 for nats in relevance(model, tokenizer, questions)]  # noqa: B023

        began = time.process_time()
        right = values(own)
        seconds = (time.process_time() - began) / len(own)
        wrong = values(strange)
        paired = sum(one > other for one, other in zip(right, wrong, strict=True))
        print(f"{path}: {len(own)} references, {seconds:.2f} CPU seconds an answer")
        print(f"  beside another question's           AUC {auc(right, wrong):.4f}, the right question above in {paired}")
        for limit in sorted({LEAST, *np.quantile(right, [0.005, 0.01, 0.05]).round(3)}):
            missed, found = np.mean(np.array(right) < limit), np.mean(np.array(wrong) < limit)
            print(f"  under {limit:6.3f}: {missed:6.2%} of the references, {found:6.2%} of the others")
        for name, texts in answers.items():
            said = values(texts[: args.most or None])
            share = np.mean(np.array(said) >= LEAST)
            print(f"  beside greedy answers of {name:<10} AUC {auc(right, said):.4f}, {share:.1%} relevant")


if __name__ == "__main__":
    main()
