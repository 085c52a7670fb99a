"""Sentences that sound translated: a mild mark (weight 0.05), which alone never makes an answer unnatural.

Only patterns that a careful reader would put right, each with its plainer form:

1. Passive on passive: `사용되어집니다` → 사용됩니다, `쓰여진` → 쓰인, `보여집니다` → 보입니다. Verbs whose only passive is
   in 어지다 (알려지다, 밝혀지다, 이루어지다) are right and not listed.
2. `하는 것이 가능합니다` → 할 수 있습니다.
3. `-고 있는 중입니다` → -고 있습니다.
4. Sentences that open with 당신은, 그것은, 그들은: Korean leaves them out. One will do where it opens a quarter of the
   sentences, else three. Not where the prompt says 당신 or 그것 itself, nor in stories and letters.
   `인구를 가지고 있다`, `…에 대한 이해를 가지고 있다`, `위치해 있는` once.
5. `을 가지고 있다` three times, once in 25 words or more often, unless the prompt counts what somebody has (가지고).

On 1,555 answers judged 9 or 10 this marks 0.5 %, on our own 1,099 answers none (docs/naturalness.md). 을 필요로 하다,
가장 … 중 하나, -게 만들다 and a single 을 가지고 있다 are as common in good answers as in bad ones and stay unmarked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from align_ko.korean.prose import Sentence, Span

_PASSIVE_STEMS = (
    "보여|쓰여|잊혀|불려|불리워|나뉘어|나뉘여|놓여|담겨|읽혀|잡혀|열려|닫혀|찢겨|쌓여|섞여|묻혀|모여|짜여|바뀌어|바껴|뽑혀|믿겨"
    "|잘려|갈려|꺾여|엮여|닦여|팔려"
)
_PATTERNS = re.compile(
    rf"(?<![가-힣])[가-힣]{{1,12}}되어[지진졌질짐집][가-힣]*|(?<![가-힣])(?:{_PASSIVE_STEMS})[지진졌질짐집][가-힣]*"
    r"|위치해 있[는습어][가-힣]*|구성되어져[가-힣]*"
    r"|[는할한된될] ?것[이도] 가능[합하해했][가-힣]*"
    r"|고 있는 중(?:입|이에|이었|이며|이고|이다)[가-힣]*"
)
_HAVE_ABSTRACT = re.compile(
    r"(?:인구|(?:대한|관한) (?:이해|지식|관심|두려움|열정|인식)|회의|모임|대화|식사)[을를] 가(?:지(?:고 있|는 것)|졌)[가-힣]*"
)
_HAVE = re.compile(r"[을를] 가지(?:고 있|며|ㅂ니다)[가-힣]*")
_OPENING = re.compile(r"\W*(?P<word>당신은|당신의|그것은|그것들은|그들은)(?![가-힣])")
_TOLD = re.compile(r"당신|그것|그들|소설|이야기|동화|일기|편지|메일|시를|작품|대사|광고|홍보|연설|번역")
_QUICK = re.compile(  # each alternative opens with a letter, not a class: so re skips from letter to letter
    "|".join(f"{stem}[지진졌질짐집]" for stem in ("되어", *_PASSIVE_STEMS.split("|")))
    + "|것이 가능|것도 가능|있는 중|을 가지|를 가지|을 가졌|를 가졌|위치해 있|구성되어져|당신|그것|그들"
)
_MOST = 5


def translationese(text: str, parts: Sequence[Sentence], prompt: str | None = None) -> list[Span]:
    """Spans of what sounds translated; `text` has code and quotations blanked.

    `이 기능은 자주 사용되어집니다.` → 사용되어집니다; `이 사실은 널리 알려져 있습니다.` → nothing.
    """
    if not _QUICK.search(text):
        return []
    found = [Span(*match.span()) for match in _PATTERNS.finditer(text)]
    having = [Span(*match.span()) for match in _HAVE.finditer(text)]
    if "가지" in text or "가졌" in text:
        found += [Span(*match.span()) for match in _HAVE_ABSTRACT.finditer(text)]
    if "가지고" not in (prompt or "") and len(having) >= 3 and len(having) * 25 >= len(text.split()):
        found += having
    if not (prompt and _TOLD.search(prompt)):
        said = [part for part in parts if part.kind in ("prose", "item")]
        openings = [Span(*match.span("word")) for part in said if (match := _OPENING.match(text, part.start, part.end))]
        if len(openings) >= 3 or len(openings) * 4 >= max(1, len(said)):
            found += openings
    return sorted(found)[:_MOST]
