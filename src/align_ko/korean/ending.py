"""Does the answer end, and does it answer rather than repeat the question?"""

from __future__ import annotations

import re

from align_ko.korean.prose import Span, own_words
from align_ko.korean.sentence_endings import ending_level
from align_ko.korean.tagger import wants_more

_BARE_DIGIT = re.compile(r"(?:(?<!\d),|[가-힣](?:고|며|서|면|지만|니|데)) \d+$")
_NUMBER_AFTER_NOUN = re.compile(r"\S \S*[가-힣](?<![답값수합차곱몫과기이호총][은는])(?<![답총]) \d+$")
_NUMBER_END = re.compile(r"\d(?:[~∼-]|[%A-Za-z]{1,3})?$")
_FINISHED = re.compile(r"[.!?…。~)\]}>\"'”’」』】*_`|^♡♥:)☀-➿\U0001F000-\U0001FAFF️ㅋㅎㅠㅜ$%=0-9A-Za-z]$")
_CUT_LIST = re.compile(r"(?:^|\n)[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]*$")
_CODE_END = re.compile(r"^[^가-힣]*;$")
_GOES_ON = re.compile(r"[가-힣](?:며|고|서|면|지만|는데|니까|하여|도록), ")
_QUESTION_ITEM = re.compile(r"(?:[는은인]지|[할될갈볼일을]지)$")
_LINE_ITEM = re.compile(r"(?<![ \t])[ \t]*(?:[-*•|]+|\d{1,3}[.)]|#+)[ \t]*")
_CLOSED_PREDICATE = re.compile(r"(?:니다|니까|요|죠|다|오|네|자|라|야|어|아|해|지)[\"'”’*_)]*$")
# A last word in one of these wants more to follow: particles, connectives, adnominals, bound nouns, adverbs.
_OPEN_WORD = re.compile(
    r"(?:[가-힣](?:은|는|을|를|의|에|와|과|에서|으로|하고|하며|하여|(?<!위)해서|지만|므로"
    r"|면서|려면|위해|통해|대한|관한|따른|같은|하는|되는|있는|없는|적인|스러운|로운|이나"
    r"|부터|까지|에게|처럼|보다|라는|다는"
    r"|했던|시키는|기에|되어|하지|하면|으며|이며|도록|거나|[했됐였]고)"
    r"|(?:^|\s)(?:수|것|데|때|및|또는|그리고|또한|하지만|그러나|따라서|특히|예를|더|더욱"
    r"|매우|가장|다른|그|이|이러한|그러한|이런|그런|각|모든|여전히|다양한|새로운|여러|많은"
    r"|위한|한|두|세|몇|어떤|이를|이는|통해|위해|대해|대한|관한|인해|의해|약|즉|바로|함께|다시|잘|못|안|왜|곧|이렇게|그렇게"
    r"|만약|물론|하는|되는|있는|없는|할|될|볼|된|큰|작은|좋은)"
    r"|[할될일갈을볼줄울릴킬][ ]수|[가-힣]한)$"
)
_NOUN_END = re.compile(
    r"(?:무한|기한|제한|권한|극한|한정|북한|남한|유한|시한|문의|회의|논의|정의|주의|강의"
    r"|의의|합의|동의|유의|편의|예의|창의|거의|모의|협의|가을|마을|노을|효과|결과|사과"
    r"|학과|성과|경과|내과|외과|초과|통과|서울은|도로|피로|경로|통로|진로|원로|항로|문화와)$"
)
_LETTER = re.compile(r"\w")
_GAP = re.compile(r"\W+")
_SIGNED = re.compile(r"(?:드림|올림|배상|씀|로부터|에게|께|귀하|님)[.,]?$|^\[[^\]]*\]|팀$|^P\.?S")
_REGARDS = re.compile(r"감사|드림|올림|그리움|안녕|바랍니다|\]|기대|향해|고대")
_SENTENCE_BREAK = re.compile(r"(?<=[가-힣)\"'”’\]*])[.!?…]+[)\"'”’*]*\s+(?=\S)")


def unfinished(text: str, *, free: bool = False, passage: bool = False) -> Span | None:
    """The unfinished tail, if the answer breaks off: `비타민은 몸에` → `몸에`.

    `free`: verse, titles and slogans, which need no predicate. `passage`: text that answers nothing may end where a code block
    or a picture followed: `다음 명령을 실행하세요:`.
    """
    body = text.rstrip()
    if not body:
        return None
    line = body[body.rfind("\n") + 1 :]
    tail = Span(body.rfind(" ", len(body) - len(line)) + 1 or len(body) - len(line), len(body))
    if body.count("```") % 2 or _CUT_LIST.search(line):
        return tail
    if _CODE_END.search(line) or (passage and line.endswith(":") and " " in line):
        return None
    said = own_words(line)
    if said.count("(") > said.count(")") and not re.search(r"[:;=]\($", body):
        return tail
    if body.endswith((",", "，", "、", ";", ":", "·", "-")) and not body.endswith("--"):
        return tail
    if _ends_in_number(line):
        return tail
    if _FINISHED.search(body[-1]):
        return None
    pieces = _SENTENCE_BREAK.split(line)
    last = _LINE_ITEM.sub("", pieces[-1]).strip()
    level, sure = ending_level(last)
    word = last.rsplit(" ", 1)[-1]
    if word.endswith("마다") and len(last.split()) > 2:
        return tail
    if level in ("hapsyo", "haeyo", "neutral") and _CLOSED_PREDICATE.search(word):
        return None
    if len(last.split()) <= 4 and len(body) > len(line) and _SIGNED.search(last):
        return None
    if line.count("**") % 2 or line.count("[") > line.count("]"):
        return tail
    if _OPEN_WORD.search(last) and not _NOUN_END.search(word):
        return tail
    if level != "fragment" and sure and len(pieces) == 1 and level not in ("haeyo", "hapsyo"):
        return None
    if len(pieces) > 1 or level in (
        "haeyo",
        "hapsyo",
    ):  # after a closed sentence on the same line, or turned-round order
        return tail if len(pieces) > 1 else (None if len(last.split()) < 12 else tail)
    lines = [each.rstrip() for each in body.split("\n") if each.strip()]
    if free and not any(each[-1] in ".!?," for each in lines) and not (len(last.split()) > 4 and wants_more(last)):
        return None
    if len(lines) == 1:  # a single short line is an answer in a word or a list of words
        if len(set(last.split())) == 1:
            return None
        return tail if len(last.split()) > 4 and (last.count(",") < 2 or _GOES_ON.search(last)) else None
    if _LINE_ITEM.match(line):
        if _QUESTION_ITEM.search(word):  # - 트리가 무엇인지
            return None
        # A noun item after noun items is a list; among full sentences it is a cut.
        others = [each for each in lines[:-1] if _LINE_ITEM.match(each)]
        if not others or sum(each[-1] not in ".!?" for each in others) * 3 < len(others):
            return tail
        return tail if wants_more(last) and not _NOUN_END.search(word) else None
    if line.startswith("#") or (lines[-2].endswith((":", ",", "，")) and not wants_more(last)):
        return None
    if len(last.split()) <= 3 and "\n\n" in body and _REGARDS.search(lines[-2]) and not wants_more(last):
        return None
    # Verse, lists of names and addresses have no end marks at all; beside full sentences a bare line is a cut.
    if sum(each[-1] in ".!?" for each in lines[:-1]) * 2 >= len(lines) - 1 or wants_more(last):
        return tail
    return None


def _ends_in_number(line: str) -> bool:
    """`… 1L를 만든다면 식초 2` or `… 먹이는 2~`: a number without its unit after a whole sentence or a connective."""
    if not _NUMBER_END.search(line, max(0, len(line) - 4)):
        return False
    pieces = _SENTENCE_BREAK.split(line)
    if line[-1] not in "~∼-" and not line[-1].isdigit():  # 디스크 빈 공간이 10%
        return len(pieces) > 1 and bool(re.search(r"[가-힣][이가을를] \d[\d.,]*\D+$", pieces[-1]))
    if re.search("[=:]", pieces[-1]):
        return False
    if line[-1] in "~∼-":
        return len(pieces) > 1
    if _BARE_DIGIT.search(line):
        return len(line.split()) > 4
    return len(pieces) > 1 and bool(_NUMBER_AFTER_NOUN.search(pieces[-1]))


_NAMED_ITSELF = re.compile(
    r"(?P<topic>[^\"'“”‘’\n]{1,40})(?:은|는) [\"'“‘](?P<name>[^\"'“”‘’\n]{2,80})[\"'”’]"
    r"(?:입니다|이에요|예요|이?라고 (?:합니다|해요|불러요|부릅니다))[.!]?"
)


_LONGEST_NAMING = 200  # letters; what _NAMED_ITSELF matches is shorter


def _asks_back(text: str, prompt: str) -> bool:
    """`냉장이 나은가요, 냉동이 나은가요? 냉장이 나은가요?`: questions alone, each of them in the prompt."""
    if not text.rstrip().endswith("?"):
        return False
    asked = _GAP.sub("", prompt)
    questions = [_GAP.sub("", each) for each in text.split("?") if each.strip()]
    return all(len(each) > 4 and each in asked for each in questions)


def _names_itself(text: str, prompt: str) -> bool:
    """`그의 별명은 '그의 별명'입니다.`"""
    body = text.strip()
    named = _NAMED_ITSELF.fullmatch(body) if len(body) < _LONGEST_NAMING and "?" in prompt else None
    if not named:
        return False
    name, topic, asked = (_GAP.sub("", each) for each in (named["name"], named["topic"], prompt))
    return name == topic or (name in asked and len(name) * 2 >= len(asked))


def echo(text: str, prompt: str | None) -> Span | None:
    """The prompt said again instead of an answer: `한국의 수도는 어디인가요? 한국의 인구는 얼마인가요?` to the first.

    Taking the question up once before a real answer is a manner of speaking, not an echo. So is what a question calls a thing,
    given back as its name: `그의 별명은 '그의 별명'입니다.`
    """
    if not prompt:
        return None
    if _asks_back(text, prompt) or _names_itself(text, prompt):
        return Span(0, len(text))
    first, opening = _LETTER.search(prompt), _LETTER.search(text)
    if not first or not opening or first[0] != opening[0]:
        return None
    asked = _GAP.sub("", prompt)
    head = _GAP.sub("", text[:40])
    if len(asked) < 6 or head[: len(asked)] != asked[: len(head)]:
        return None
    said = _GAP.sub("", text)
    if not said.startswith(asked):
        return None
    rest = said[len(asked) :]
    asks_on = "?" in prompt and not re.search(r"[^?\s]\s*[.!](?:\s|$)", text) and text.rstrip().endswith("?")
    if len(rest) < 6 or rest.startswith(asked) or asks_on:
        return Span(0, min(len(text), len(prompt) + 2))
    return None
