"""Kinds of text that the judge is not made for."""

from __future__ import annotations

import pytest

from align_ko.evaluation.scores import score_rows, summarise
from align_ko.korean import assess
from align_ko.preferences.judges import is_faulty, judge
from align_ko.training.gate import gate_measures

CODE = "```python\nfor i in range(3):\n    print(i)\n```"
TABLE = "| 요금제 | 월 요금 |\n|---|---|\n| 기본 | 33,000원 |\n| 표준 | 49,000원 |"
PROOF = "√2 = p/q라고 가정하자. 그러면 2q² = p²이므로 p는 짝수이다. p = 2k라 하면 q² = 2k²이므로 q도 짝수이다. 이는 모순이다."


@pytest.mark.parametrize(
    ("prompt", "text", "kind"),
    [
        ("출력하는 코드를 써 줘", CODE, "code"),
        (None, "#include <map>\nint main() {\n    return 0;\n}", "code"),
        ("요금제를 표로 비교해 줘", TABLE, "table"),
        ("루트 2가 무리수임을 증명해 줘", PROOF, "proof"),
        ("출력하는 코드를 써 줘", f"아래 코드를 쓰세요.\n\n{CODE}", ""),
        ("요금제를 비교해 줘", f"두 요금제를 비교했습니다.\n\n{TABLE}", ""),
        ("루트 2가 무리수인 이유는?", "두 정수의 비로 나타낼 수 없기 때문입니다.", ""),
        ("오늘 날씨는?", "The weather is nice today.\nYou can go out.\nTake a hat with you.\nHave a nice day.", ""),
        ("출력하는 코드를 써 줘", "```python\nfor i in range(3):\n    pri", ""),  # a cut is one in any kind of text
    ],
)
def test_kinds(prompt: str | None, text: str, kind: str) -> None:
    found = assess(text, prompt)
    assert found.outside == kind
    if kind:
        assert (found.natural, found.codes) == (True, [])


def test_such_an_answer_is_neither_chosen_nor_rejected() -> None:
    judged = judge("출력하는 코드를 써 줘", CODE, True, None)
    assert judged.outside == "code"
    assert not is_faulty(judged)


def test_gate_and_evaluation_count_it_apart() -> None:
    loop = "가자 나무 가자 나무 가자 나무 가자 나무"
    gate = [
        {"prompt": "?", "response": text, "finished": True, "natural": not kind and text != loop, "outside": kind, "score": 1.0,
         "faults": [], "cut": False}
        for text, kind in ((CODE, "code"), ("네, 맞습니다.", ""), (loop, ""))
    ]  # fmt: skip
    measured = gate_measures(gate)
    assert (measured["eval_greedy_natural"], round(measured["eval_greedy_outside"], 3)) == (0.5, 0.333)
    rows = score_rows(
        {"prompt": [{"role": "user", "content": asked}], "response": text, "finished": True, "model": "m", "setting": "greedy",
         "decoding": "greedy", "kind": "heldout", "prompt_id": asked, "tokens": 5}
        for asked, text in (("코드를 써 줘", CODE), ("맞나요?", "네, 맞습니다."), ("노래해 줄래?", loop))
    )  # fmt: skip
    [result] = summarise(rows)["results"]
    assert (result["n"], result["outside"], result["natural"]) == (3, 1, 0.5)
