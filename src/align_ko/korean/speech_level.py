"""Speech level (높임) of a sentence and of a whole answer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from align_ko.korean.prose import Sentence, sentences
from align_ko.korean.sentence_endings import ending_level, without_tail
from align_ko.korean.tagger import closes

POLITE = frozenset({"hapsyo", "haeyo"})
PLAIN = frozenset({"hae", "haera"})
ARCHAIC = frozenset({"hao", "hage"})

_MEMO = re.compile(r"(?:[음됨함임]|[있없싶않같했됐]음)$")  # 음슴체
_POLITE_CUE = re.compile(
    r"(?:^|\s)(?:저는|제가|제|저희|저도|저를)(?:\s|$)|시면(?:\s|$)|신지(?:\s|$|,)|[시신]데(?:\s"
    r"|$)|말씀"
)
_PLAIN_CUE = re.compile(r"(?:^|\s)(?:나는|난|내가|내|나도|너|너는|넌|네가|니가|야|응|우리|저기|있잖아)(?:[\s,]|$)")
_LABELLED = re.compile(r"[ \t>*]*[가-힣A-Za-z0-9() ]{1,14}[*]*:[*]*[ \t]*\S")  # 정답: 나는 자동차를 보았다.
_MAYBE_VERB = re.compile(r"[겨셔켜쳐져려여펴혀타자가사파차나마써꺼커떠내매대깨재세베내래]")
_WORD = re.compile(r"[0-9A-Za-z가-힣]+")


class Level(NamedTuple):
    """`level`: hapsyo, haeyo, hae, haera, hao, hage, neutral (written -다), fragment. `sure`: no noun ends so."""

    level: str
    start: int
    end: int
    sure: bool = True


@dataclass(frozen=True)
class SpeechLevel:
    """`verdict`: polite, plain, archaic, neutral, mixed or unknown; `odd` are the sentences against the main level."""

    verdict: str
    levels: tuple[Level, ...]
    odd: tuple[Level, ...] = ()


def sentence_level(sentence: str) -> str:
    """`알겠습니다.` → hapsyo, `알겠어요.` → haeyo, `알겠어.` → hae, `알겠냐?` → haera, `중요하다.` → neutral."""
    return ending_level(sentence)[0]


def document_level(text: str, *, parts: list[Sentence] | None = None, prompt: str | None = None) -> SpeechLevel:
    """Verdict over all own sentences. `네, 맞습니다. 근데 그건 아니야.` → mixed, with the span of the second sentence.

    What is shown rather than said does not count beside polite sentences: told stories in -다, options copied from
    the prompt, and material that a label or a line ending in a colon announces.
    """
    parts = sentences(text) if parts is None else parts
    levels: list[Level] = []
    for part in parts:
        if part.kind in ("table", "heading"):
            continue
        level, sure = ending_level(part.text)
        if (
            level == "fragment"
            and part.kind == "prose"
            and part.text[-1] in ".!?"
            and _MAYBE_VERB.search(without_tail(part.text)[-1:])
        ):
            level, sure = "hae", False
        if level not in POLITE:
            # A list item in -다 or -음 is a note, not speech.
            if part.kind == "item" or level == "fragment":
                continue
            # Without an end mark a bare line in 해체 shape is most often a noun phrase: 오늘의 메뉴 안내
            if part.text[-1] not in ".!?…~" and len(parts) > 1:
                continue
        levels.append(Level(level, part.start, part.end, sure))
    counts = Counter(item.level for item in levels)
    polite, plain, archaic = (sum(counts[x] for x in group) for group in (POLITE, PLAIN, ARCHAIC))
    everything = tuple(levels)
    if polite:
        if archaic and not any(x.level == "hapsyo" or (x.level == "haeyo" and x.sure) for x in levels):
            return SpeechLevel("archaic", everything)
        odd = _odd(text, levels, prompt) if polite < len(levels) else ()
        return SpeechLevel("mixed" if odd else "polite", everything, odd)
    if archaic > plain:
        return SpeechLevel("archaic", everything)
    if plain:
        return SpeechLevel("plain", everything)
    if counts["neutral"]:
        return SpeechLevel("neutral", everything)
    return SpeechLevel(_by_cue(text, parts), everything)


def _odd(text: str, levels: list[Level], prompt: str | None) -> tuple[Level, ...]:
    """The sentences that a reader of a polite answer trips over."""
    told = {i for i, item in enumerate(levels) if item.level == "neutral"}
    if len(told) < 3:
        told = set()
    asked = set(pairwise(_WORD.findall(prompt or "")))
    odd = []
    for i, item in enumerate(levels):
        if item.level in POLITE:
            continue
        # A story goes on through its questions and exclamations: 나는 왜 떠나야 했을까?
        if i in told or (told and ({i - 1, i + 1} & told)):
            continue
        begin = text.rfind("\n", 0, item.start) + 1
        before = text[:begin].rstrip()
        if before.endswith((":", ":**", ":*")) or _LABELLED.match(text[begin : item.end]):
            continue
        said = _WORD.findall(text[item.start : item.end])
        pairs = list(pairwise(said))
        if pairs and sum(pair in asked for pair in pairs) >= 0.6 * len(pairs):
            continue
        if item.sure or closes(without_tail(text[item.start : item.end])):
            odd.append(item)
    return tuple(odd)


def _by_cue(text: str, parts: list[Sentence]) -> str:
    """Without a predicate the pronoun tells: `저는 서울에서 왔는데` → polite, `나는 아직` → plain, `서울` → unknown."""
    if len(parts) > 2 or len(text.split()) < 2:
        return "unknown"
    if parts and parts[-1].kind == "prose" and _MEMO.search(without_tail(text)):
        return "plain"
    if _POLITE_CUE.search(text):
        return "polite"
    return "plain" if _PLAIN_CUE.search(text) else "unknown"
