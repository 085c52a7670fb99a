"""Answers that belong to another question, where that can be told from the words alone.

| question                                    | answer                                                    |            |
|---------------------------------------------|-----------------------------------------------------------|------------|
| 감자조림이 자꾸 부서져요. 모양을 살리려면요? | 고려청자의 푸른빛은 철분에서 나옵니다. 청자는 …           | off topic  |
| 감자조림이 자꾸 부서져요. 모양을 살리려면요? | 썬 감자를 찬물에 담가 겉의 전분을 빼세요. …               | on topic   |
| 심심해요.                                   | 끝말잇기 어때요? 제가 먼저 할게요. …                      | cannot tell |

Files whose columns slipped by a line hold such pairs by the thousand. An answer takes up at least one content word of its
question: the word, a part of a compound (목소리 → 말소리), a syllable that is a word of its own (콩을 → 콩 뿌리), the stem of a
verb (내렸어요 → 내린), a number, a Latin word; or a word from earlier in the conversation. Not judged, because good answers
share nothing either: few content words, short answers, code, translation, games, texts to be written.

Measured: none of our own 950 rows, by which the rules were drawn up, and none of 3,500 judged answers is flagged; of the 950
answers dealt out anew half are (with two words instead of three 56 %, with four 36 %). Expect a few false alarms in 10,000."""

from __future__ import annotations

import re

from align_ko.korean.words import HANGUL, STEMS, content_pieces

_OTHER = re.compile(r"[A-Za-z]{2,}|\d{2,}")
# Frequent in questions about anything: they say nothing of what the question is about.
_CHATTY = frozenset(
    "지금 너무 자꾸 오늘 보여 보이 좋을 되나 해야 하나 뭐가 얼마 들어 뭔가 좋아 써줘 다시 다른 하루 중에 처음 보내 나는 하면 "
    "해요 뭔지 요즘 부탁 누가 같아 어느 정말 진짜 그냥 계속 내일 어제 모르 그런 이런 저런 하려 하는 할까 될까 괜찮 궁금 혹시 "
    "그래 그럼 우리 저희 있으 있을 없어 없나 없을 되는 되면 됐어 했는 했어 하고 해도 않아 싶은데 건가 거예 거야 나요 까요 일까 "
    "걸까 뭘까 몇개 제일 가장 자주 조금 많이 빨리 아주 매우 이제 아직 항상 늘상 때문 이거 그거 저거 여기 거기 알고 알려 "
    "말이".split()
)
# Endings and helping words that any two Korean texts share.
_GRAMMAR_PAIRS = frozenset(
    "니다 습니 합니 입니 이에 에요 예요 어요 아요 해요 주세 세요 는데 으면 이면 라고 에서 으로 있어 하는 하고".split()
)
_GRAMMAR_STARTS = frozenset("하해한할있이주그것때수안")
_NOT_JUDGED = re.compile(
    r"번역|영어|영작|한자로|일본어|중국어|바꿔|바꾸|고쳐|교정|요약|끝말|수수께끼|퀴즈|행시|노래|가사|시를|소설|이야기|역할|흉내|농담"
    r"|아무|작성|(?:써|적어|지어) ?[줘주보봐]|위에서|위의|윗글|앞에서|앞서|작성한|방금|이전에|주어진|형식|JSON|코드|함수"
    r"|파이썬|자바|SQL|계산|풀어|[=×÷]|너는|너의|네가|넌 |당신|자기소개",
    re.IGNORECASE,
)
LEAST_WORDS = 3
LEAST_CHARACTERS = 60
"""Hangul syllables that an answer needs to be judged by."""
MOST_CHARACTERS = 4000
"""Longer texts share some word whatever they are about."""


def is_off_topic(question: str, answer: str, earlier: str = "") -> bool:
    """Does `answer` take up nothing at all of a question that has at least LEAST_WORDS content words?"""
    if not LEAST_CHARACTERS <= len(answer) <= MOST_CHARACTERS or len(question) > MOST_CHARACTERS or "`" in answer:
        return False
    said = answer.lower()
    # Nearly every answer ends here, before anything is taken apart.
    for word in HANGUL.findall(question):
        if len(word) > 2 and word[:2] in said and word[:2] not in _CHATTY:
            return False
    if _NOT_JUDGED.search(question):
        return False
    pieces = content_pieces(question) - _CHATTY
    if len(pieces) < LEAST_WORDS or any(piece in said for piece in pieces):
        return False
    asked = f"{earlier[-MOST_CHARACTERS:]} {question}".lower()
    if any(word in said for word in set(_OTHER.findall(asked))):
        return False
    theirs, ours = HANGUL.findall(asked), HANGUL.findall(said)
    if sum(map(len, ours)) < LEAST_CHARACTERS:
        return False
    pairs = {pair for word in theirs for pair in _pairs(STEMS[word])} - _GRAMMAR_PAIRS
    if any(pair in pairs for word in ours for pair in _pairs(word)):
        return False
    theirs = [word for word in theirs if word[0] not in _GRAMMAR_STARTS]
    ours = [word for word in ours if word[0] not in _GRAMMAR_STARTS]
    single = {stem for word in theirs if len(stem := STEMS[word]) == 1}
    if any(word[0] in single for word in ours):
        return False
    alone = {stem for word in ours if len(stem := STEMS[word]) == 1}
    return not any(word[0] in alone for word in theirs) and _stems(theirs).isdisjoint(_stems(ours))


def _stems(words: list[str]) -> set[tuple[str, int]]:
    """First syllable and the consonant after it, which verbs keep: 내렸어요 and 내린, 부서져요 and 부서지고."""
    return {(word[0], (ord(word[1]) - 0xAC00) // 588) for word in words if len(word) > 1}


def _pairs(word: str) -> list[str]:
    return [word[place : place + 2] for place in range(len(word) - 1)]
