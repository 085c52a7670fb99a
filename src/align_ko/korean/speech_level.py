"""Speech level (높임) of a sentence and of a whole answer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from align_ko.korean.prose import Sentence, sentences
from align_ko.korean.sentence_endings import bare_ge, ending_level, ends_like_noun, plain_inside, without_tail
from align_ko.korean.tagger import final, noun_before_yo
from align_ko.korean.words import content_pieces

POLITE = frozenset({"hapsyo", "haeyo"})
PLAIN = frozenset({"hae", "haera"})
ARCHAIC = frozenset({"hao", "hage"})

_MEMO = re.compile(r"(?:[음됨함임]|[있없싶않같했됐]음)$")  # 음슴체
_POLITE_CUE = re.compile(
    r"(?:^|\s)(?:저는|제가|제|저희|저도|저를)(?:\s|$)|시면(?:\s|$)|신지(?:\s|$|,)|[시신][는던]?데(?:[\s.?!]"
    r"|$)|셨[는던]데|말씀"
)
_PLAIN_CUE = re.compile(r"(?:^|\s)(?:나는|난|내가|내|나도|너|너는|넌|네가|니가|야|응|우리|저기|있잖아)(?:[\s,]|$)")
# A trailing connective has no level of its own: 저는 서울에서 왔는데, 무슨 말씀이신지…
_TRAILS_POLITELY = re.compile(r"(?:^|\s)(?:저는|제가|저도|저희)\s|(?:신|시는|셨는)지[\s.,?!…~]*$")
_ONE_END = re.compile(r"[가-힣][.!?]$")
_NO_NOUN = re.compile(r"[가-힣](?:[는은던텐한인]데|는지)$|걸로$")  # 할 수 없는데 (read as 없는 데)
_LABELLED = re.compile(r"[ \t>*]*[가-힣A-Za-z0-9() ]{1,14}[*]*:[*]*[ \t]*\S")  # 정답: 나는 자동차를 보았다.
_MAYBE_VERB = re.compile(r"[겨셔켜쳐져려여펴혀타자가사파차나마써꺼커떠내매대깨재채세베래]")
_TOLD_TO = re.compile(r"[단란]다[.!]?$")  # 옛날에 토끼가 살았단다.
_WORD = re.compile(r"[0-9A-Za-z가-힣]+")
_OPTION = re.compile(r"[A-Za-z가-하][.)]")  # C) 기계가 일을 대신했다. 글에 그렇게 나와 있습니다.
_ARROW = re.compile(r"[→⇒➡]|[-=]>")  # 나는 간다. → 저는 갑니다.


# What a writer asks in order to answer it: 왜 이런 일이 생길까? 답은 간단합니다. Or the half of a question: 모르겠다면?
_HALF_ASKED = re.compile(r"(?:면|(?:는|은|을|일|할|될|갈|볼|줄|올)지|[가-힣](?:는|은|던|인)가|(?<=[가-힣])(?:이|)란|했다면)\?$")
_ANSWERS = re.compile(r"\W*(?:답|정답|해답|이유|비결|바로|그것은|그건|결론)|.*(?:때문|덕분|까닭)")
_ASKED_ONESELF = re.compile(r"까\?$")
_ASKING_WORD = re.compile(r"(?:^|\s)(?:왜|무엇|무얼|뭘까|어떻게|어떤|어디|어째서|누가|누구|얼마|언제|과연|그렇다면|무슨)")
_TO_SOMEBODY = re.compile(r"(?:^|\s)(?:너|넌|너는|네가|니가|나|난|나는|내가|우리|저기|야|같이|그럼|안녕|응|어|아마)(?:[\s,]|$)")


class Level(NamedTuple):
    """`level`: hapsyo, haeyo, hae, haera, hao, hage or neutral (written -다). `sure`: no noun ends so."""

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
    """`알겠습니다.` → hapsyo, `알겠어요.` → haeyo, `알겠어.` → hae, `알겠냐?` → haera, `알겠소.` → hao, `알겠네그려.` → hage.

    `물은 100도에서 끓는다.` → neutral, `우리 동네` → fragment (no predicate), `Hello!` → unknown. Where a noun could end
    the same way (동네, 나라; 커피는 네가 사) Kiwi is asked.
    """
    level, sure = ending_level(sentence)
    text = without_tail(sentence)
    if level == "fragment" and _MAYBE_VERB.search(text[-1:]):
        return "hae" if final(text) == "closed" else level
    return "fragment" if not sure and level in PLAIN and _is_noun(text) else level


def document_level(text: str, *, parts: list[Sentence] | None = None, prompt: str | None = None) -> SpeechLevel:
    """Verdict over all own sentences. `네, 맞습니다. 근데 그건 아니야.` → mixed, with the span of the second sentence.

    What is shown rather than said does not count beside polite sentences: told stories in -다, options copied from
    the prompt, material that a label or a line ending in a colon announces, and notes: list items in -다 or -음.
    """
    parts = sentences(text) if parts is None else parts
    read = {
        i: ending_level(part.text, note=part.kind == "item")
        for i, part in enumerate(parts)
        if part.kind not in ("table", "heading")
    }
    spoken = _spoken_items(text, parts, {i for i, (level, _) in read.items() if level in POLITE})
    levels: list[Level] = []
    quoted = _quoted_blocks(text, parts) if "\n>" in text else frozenset()
    for i, (level, sure) in read.items():
        part = parts[i]
        if i in quoted:
            continue
        note = part.kind == "item" and i not in spoken
        if i in spoken:
            level, sure = ending_level(part.text)
        if level == "fragment" and not note and part.text[-1] in ".!?" and _MAYBE_VERB.search(without_tail(part.text)[-1:]):
            level, sure = "hae", False
        if level not in POLITE:
            if note or level in ("fragment", "unknown"):
                continue
            # Without an end mark a bare line in 해체 shape is most often a noun phrase: 오늘의 메뉴 안내
            if part.text[-1] not in ".!?…~" and len(parts) > 1:
                continue
        levels.append(Level(level, part.start, part.end, sure))
    if levels and all([item.level in POLITE for item in levels]):  # as in most answers; nothing below would be asked
        return SpeechLevel("polite", tuple(levels))
    levels = _settled(text, levels)
    counts = Counter(item.level for item in levels)
    polite, plain, archaic = (sum(counts[x] for x in group) for group in (POLITE, PLAIN, ARCHAIC))
    everything = tuple(levels)
    if polite:
        if archaic and not any(x.level == "hapsyo" or (x.level == "haeyo" and x.sure) for x in levels):
            return SpeechLevel("archaic", everything)
        odd = _odd(text, levels, prompt) if polite < len(levels) else ()
        return SpeechLevel("mixed" if odd else "polite", everything, odd)
    if archaic and _is_old_style(text, levels):
        return SpeechLevel("archaic", everything)
    if plain:
        trails = not any(item.sure for item in levels) and _TRAILS_POLITELY.search(text)
        return SpeechLevel("polite" if trails else "plain", everything)
    if counts["neutral"]:
        return SpeechLevel("neutral", everything)
    return SpeechLevel(_by_cue(text, parts), everything)


def _quoted_blocks(text: str, parts: list[Sentence]) -> frozenset[int]:
    """Sentences in lines that open with >, beside others: what is quoted has its own level."""
    quoted = frozenset(i for i, part in enumerate(parts) if text.startswith(">", text.rfind("\n", 0, part.start) + 1))
    return quoted if len(quoted) < len(parts) else frozenset()


def _spoken_items(text: str, parts: list[Sentence], polite: set[int]) -> set[int]:
    """The plain sentences of list items that are said to the reader, not noted down: not all items of a list are notes.

    `1. 물을 끓여 주세요. 한 번만 젓는 게 요령이다.`: an item with a polite sentence is speech, and so is a plain item where two
    thirds of its list are polite. Titles (all items open in -다), what a label or an arrow shows and options stay notes.
    """
    items = {i for i, part in enumerate(parts) if part.kind == "item"}
    if items <= polite or items.isdisjoint(polite):
        return set()
    spoken: set[int] = set()
    for listed in _lists(text, parts):
        said = [item for item in listed if not polite.isdisjoint(item)]
        if len(said) > 1 and 3 * len(said) >= 2 * len(listed):
            said = listed
        titled = len(listed) > 1 and polite.isdisjoint(item[0] for item in listed)
        for item in said:
            first, last = parts[item[0]], parts[item[-1]]
            marker = text[text.rfind("\n", 0, first.start) + 1 : first.start]
            if not (_OPTION.search(marker) or _ARROW.search(text, first.start, last.end)):
                spoken.update(item[1:] if titled or _LABELLED.match(text, first.start, first.end) else item)
    return spoken - polite


def _lists(text: str, parts: list[Sentence]) -> list[list[list[int]]]:
    """Lists, of items, of numbers of sentences; anything between two items ends the list."""
    lists: list[list[list[int]]] = []
    last = -2
    for number, part in enumerate(parts):
        if part.kind != "item":
            continue
        if last != number - 1:
            lists.append([[]])
        elif "\n" in text[parts[last].end : part.start]:
            lists[-1].append([])
        lists[-1][-1].append(number)
        last = number
    return lists


def _settled(text: str, levels: list[Level]) -> list[Level]:
    """Ask Kiwi where the verdict hangs on endings that nouns share: `우리 동네` is no 해체, `나그네요` can be 하오체."""
    polite = [item for item in levels if item.level in POLITE]
    if not polite:
        spoken = any(item.sure for item in levels) or not all(_is_noun(text[item.start : item.end]) for item in levels[:50])
        return levels if spoken else []
    if not any(item.level in ARCHAIC for item in levels) or any(item.level == "hapsyo" for item in polite) or len(levels) > 50:
        return levels
    return [_beside_old_style(text[item.start : item.end], item) for item in levels]


def _is_old_style(text: str, levels: list[Level]) -> bool:
    """More 하오체 and 하게체 than 해체. `가겠네` is what the rest is; `치킨인가?` alone does not make it 하게체."""
    said = [(item, without_tail(text[item.start : item.end])) for item in levels]
    old = [ending for item, ending in said if item.level in ARCHAIC]
    certain = any(not ending.endswith("가") for ending in old)
    plain = [ending for item, ending in said if item.sure and item.level in PLAIN]
    return len(old) > sum(not (certain and ending.endswith("네")) for ending in plain)


def _beside_old_style(said: str, item: Level) -> Level:
    """`소인은 모르오. 지나가던 나그네요.`: beside 하오체, 요 after a noun is 이오."""
    if item.level == "haeyo" and noun_before_yo(without_tail(said)):
        return Level("hao", item.start, item.end, False)
    return item


def _odd(text: str, levels: list[Level], prompt: str | None) -> tuple[Level, ...]:
    """The sentences that a reader of a polite answer trips over."""
    told = {i for i, item in enumerate(levels) if item.level == "neutral" or _TOLD_TO.search(text[item.start : item.end])}
    if len(told) < 3:
        told = set()
    asked = set(pairwise(_WORD.findall(prompt or "")))
    odd, asks = [], False
    for i, item in enumerate(levels):
        if item.level in POLITE:
            continue
        if _MEMO.search(without_tail(text[item.start : item.end])):  # 상태를 변경할 수 있음.
            continue
        # A story goes on through its questions and exclamations: 나는 왜 떠나야 했을까?
        if i in told or (told and ({i - 1, i + 1} & told)):
            continue
        begin = text.rfind("\n", 0, item.start) + 1
        before = text[:begin].rstrip()
        if before.endswith((":", ":**", ":*")) or _LABELLED.match(text[begin : item.end]):
            continue
        if (
            i + 1 < len(levels)
            and levels[i + 1].level in POLITE
            and _is_rhetorical(text, item, levels[i + 1], asks, len(levels) <= 5)
        ):
            asks = True
            continue
        said = _WORD.findall(text[item.start : item.end])
        pairs = list(pairwise(said))
        if pairs and sum(pair in asked for pair in pairs) >= 0.6 * len(pairs):
            continue
        if item.sure or (item.level in PLAIN and _trips(text[item.start : item.end])):
            odd.append(item)
    return tuple(odd)


def _is_rhetorical(text: str, item: Level, after: Level, asks: bool, short: bool) -> bool:
    """Half a question, or one that opens a line or that the next sentence takes up."""
    said = text[item.start : item.end]
    if not said.endswith("?"):
        return False
    if _HALF_ASKED.search(said):
        return True
    if not (_ASKED_ONESELF.search(said) and _ASKING_WORD.search(said)) or _TO_SOMEBODY.search(said):
        return False
    if asks:  # who asks himself one thing asks himself the next
        return True
    if not text[text.rfind("\n", 0, item.start) + 1 : item.start].strip(" *#>") and (short or "\n" in text):
        return True
    answer = text[after.start : after.end]
    return bool(_ANSWERS.match(answer)) or not content_pieces(said).isdisjoint(content_pieces(answer))


def _is_noun(said: str) -> bool:
    """`우리 동네`; not `알려줘 가장 큰 나라`, whose predicate stands inside."""
    asks, said = said.endswith("?"), without_tail(said)
    return not asks and not _NO_NOUN.search(said) and final(said) == "noun" and not plain_inside(said)


def _trips(said: str) -> bool:
    """Is an unsure ending plain speech after all? `그냥 귀여워서.` is; `다들 바쁘시다고 해서.` and `아직…` are not."""
    if bare_ge(said):
        return False
    body = without_tail(said)
    stop = final(body)
    if stop == "closed" and body.endswith("데"):  # 는데 is EF and EC
        stop = "linked"
    return stop in ("closed", "inner") or (stop == "linked" and bool(_ONE_END.search(said)) and not _POLITE_CUE.search(said))


def _by_cue(text: str, parts: list[Sentence]) -> str:
    """Without a predicate the pronoun tells: `저는 서울에서 왔는데` → polite, `나는 아직` → plain, `서울` → unknown."""
    if without_tail(text).strip() in ("안녕", "응", "왜", "뭐"):
        return "plain"
    if len(parts) > 2 or len(text.split()) < 2:
        return "unknown"
    if parts and parts[-1].kind == "prose" and _MEMO.search(without_tail(text)):
        return "plain"
    if _POLITE_CUE.search(text):
        return "polite"
    if _PLAIN_CUE.search(text):
        return "plain"
    last = without_tail(parts[-1].text) if parts and parts[-1].kind == "prose" else ""
    found = len(last.split()) >= 3 and "가" <= last[-1] <= "힣" and not ends_like_noun(last) and final(last)
    return "plain" if found in ("closed", "inner") else "unknown"
