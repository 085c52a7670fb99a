"""Texts that the judge is not made for: nothing but code, nothing but a table, a mathematical proof.

Their form follows other rules, so filters drop no row for it, pairs are not labelled by it, and gate and evaluation count such
answers apart. What is wrong in any kind of text (a loop, a leak, a cut, another language) is still found.
"""

from __future__ import annotations

import re

from align_ko.korean.prose import without_code

_WORDY = re.compile(r"[가-힣]{2}|[A-Za-z]{2} [A-Za-z]{2,} [A-Za-z]{2}")
_CODE_LINE = re.compile(
    r"[;{}]\s*$|^\s*(?:[)\]}#]|//|/\*|@)|^\s*(?:import|from|def|class|return|for|if|else|elif|while|try|except|with|print|public"
    r"|private|static|void|int|const|let|var|function|func|fn|package|using|SELECT|FROM|WHERE|INSERT|UPDATE|CREATE)\b.*[^.!?]$"
    r"|^[\w.\[\]\"' ]+ ?[-+*/|]?= ?\S|^\s*[\w.]+\([^가-힣]*\)$"
)
_PROOF_ASKED = re.compile(r"증명(?:해|하|을|과정)|보이시오|보여라|임을 보여")
_RELATION = re.compile(r"[=≡≤≥<>∈⊆⊂∀∃⇒→√]|\\[a-z]+")
_CODE_LINES, _ROWS, _RELATIONS = 3, 2, 3


def outside(text: str, prompt: str | None = None) -> str:
    """The kind: code, table or proof; "" for what the judge is made for.

    >>> outside("```sql\\nSELECT name FROM users;\\n```"), outside("| 가 | 1 |\\n| 나 | 2 |"), outside("네, 맞습니다.")
    ('code', 'table', '')
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) >= _ROWS and all(line.count("|") >= 2 or line.count("\t") >= 1 for line in lines):
        return "table"
    if "```" in text and not _WORDY.search(without_code(text)):
        return "code"
    if len(lines) > _CODE_LINES and sum(bool(_CODE_LINE.search(line)) for line in lines) >= 0.9 * len(lines):
        return "code"
    if prompt and _PROOF_ASKED.search(prompt) and len(_RELATION.findall(text)) >= _RELATIONS:
        return "proof"
    return ""
