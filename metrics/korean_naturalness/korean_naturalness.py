"""align_ko's judge of Korean answers as a metric of `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from align_ko.evaluation.scores import GREEDY_SETTING, Answer, score_rows, summarise

_DESCRIPTION = """\
Is this natural Korean? Rules judge the form of answers: repetition, empty phrases, a missing end, mixed speech levels, wrong
particles, foreign words. What an answer says is not judged.
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (list of str): the answers.
    prompts (list of str, optional): the last question before each; rules that need it are left out without.
    references (list of str, optional): answers to compare with; adds chrf (sacrebleu, 0 to 100).
    finished (list of bool, optional): False for an answer that was cut at the token limit.
Returns:
    natural, natural_low, natural_high: share of answers without a fault that matters, with its 95 % Wilson interval.
    outside: answers that are nothing but code or a table, or a proof, which are not judged and not in these shares.
    score: mean, 0 to 1. faults: share of answers by fault. distinct, collapse: whether different prompts get different answers.
    answers: one {natural, score, faults, speech_level, outside} for each prediction.
Examples:
    >>> judge = evaluate.load("metrics/korean_naturalness")
    >>> found = judge.compute(predictions=["네, 서울입니다.", "감사합니다. 감사합니다. 감사합니다."])
    >>> found["natural"], [fault["code"] for fault in found["answers"][1]["faults"]]
    (0.5, ['repetition'])
"""
_SHARES = "natural natural_low natural_high outside score faults distinct collapse mean_characters median_characters".split()
_EACH = ("natural", "score", "faults", "speech_level", "outside")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class KoreanNaturalness(evaluate.Metric):
    """`evaluate` wants every column in every call: `prompts` and `references` that are not given become empty texts. It also
    appends to the docstrings of these methods, so each needs one."""

    def _info(self) -> evaluate.MetricInfo:
        columns = {name: datasets.Value("string") for name in ("predictions", "references", "prompts")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(columns),
            license="Apache-2.0",
        )

    def add(self, *, prediction: str, reference: str = "", prompts: str = "") -> None:
        """One answer."""
        super().add(prediction=prediction, reference=reference, prompts=prompts)

    def add_batch(
        self, *, predictions: list[str], references: list[str] | None = None, prompts: list[str] | None = None
    ) -> None:
        """Several answers."""
        empty = [""] * len(predictions)
        super().add_batch(predictions=predictions, references=references or empty, prompts=prompts or empty)

    def compute(self, *, prompts: list[str] | None = None, **inputs: Any) -> dict[str, Any] | None:
        """Judge the answers given here, or those added before."""
        found: dict[str, Any] | None = super().compute(prompts=prompts, **inputs)
        return found

    def _compute(
        self, predictions: list[str], references: list[str], prompts: list[str], finished: list[bool] | None = None
    ) -> dict[str, Any]:
        rows: list[Answer] = []
        ended = finished or [True] * len(predictions)
        for number, (text, reference, prompt, end) in enumerate(zip(predictions, references, prompts, ended, strict=True)):
            # without a question each answer is one to a question of its own
            asked = {"role": "user", "content": prompt} if prompt else {"role": "system", "content": str(number)}
            rows.append(
                {
                    "model": "", "setting": GREEDY_SETTING, "decoding": "", "kind": "heldout", "prompt": [asked],
                    "prompt_id": str(number), "group": "", "topic": "", "reference": reference or None, "response": text,
                    "finished": end, "tokens": 0,
                }
            )  # fmt: skip
        scored = score_rows(rows)
        [result] = summarise(scored)["results"]
        shares: dict[str, Any] = {name: result[name] for name in _SHARES}
        chrf = {"chrf": result["chrf"]} if any(references) else {}
        return shares | chrf | {"answers": [{name: row[name] for name in _EACH} for row in scored]}
