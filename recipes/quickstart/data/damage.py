"""The ways in which spoil.py damages an answer: `damage(answer, question, turn, rng) -> (answer, variant)`.

`turn` counts a kind's rows, so that its variants come equally often. `Untouchable` means that this answer does not lend
itself to it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache

from kiwipiepy import Kiwi, Token


class Untouchable(Exception):
    """This answer cannot be damaged in this way (too short, no polite sentence to flip, …)."""


@cache
def kiwi() -> Kiwi:
    return Kiwi()


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", text) if part]


def prose(answer: str, least: int = 2) -> list[str]:
    """The sentences of an answer without code, lists or quotations, which a change would not damage as meant."""
    parts = sentences(answer)
    if len(parts) < least or re.search(r"```|\n|[\"“”'‘’]", answer):
        raise Untouchable
    return parts


def mixed_speech_level(answer: str, question: str, turn: int, rng: random.Random) -> tuple[str, str]:
    """One polite sentence in plain form: "냉동실에 얼려 두세요." → "냉동실에 얼려 둬."."""
    parts = prose(answer, least=3)
    variant = ("hae", "haera")[turn % 2]
    for place in rng.sample(range(len(parts)), len(parts)):
        if flipped := to_plain(parts[place], variant):
            return " ".join([*parts[:place], flipped, *parts[place + 1 :]]), variant
    raise Untouchable


def to_plain(sentence: str, form: str) -> str | None:
    """The sentence with its last word in 해체 (`hae`) or 해라체 (`haera`), or None where that is not certain.

    Kiwi takes the last word apart and joins it again, so stems change as they should: 도와요 → 도와, 가릅니다 → 가른다.
    """
    tokens = kiwi().tokenize(sentence)
    if not tokens or tokens[-1].tag != "SF" or tokens[-1].form != ".":
        return None
    end = next((i for i in range(len(tokens) - 2, -1, -1) if tokens[i].tag == "EF"), -1)
    if end != len(tokens) - 2:
        return None
    word_start = sentence.rfind(" ", 0, tokens[end].end) + 1
    start = next(i for i, token in enumerate(tokens) if token.start >= word_start)
    stem = [(token.form, token.tag) for token in tokens[start:end]]
    ending = plain_ending(tokens[end], [token.tag for token in tokens[:end]], tokens[end - 1].form, form)
    honorific = [i for i, (text, tag) in enumerate(stem) if tag == "EP" and text in ("시", "으시")]
    if not stem or not ending or (honorific and form == "haera"):
        return None  # "보신다" is still deferent: no clear fault
    stem = [part for i, part in enumerate(stem) if i not in honorific]
    word = kiwi().join([*stem, (ending, "EF")])
    flipped = sentence[:word_start] + word + "."
    return flipped if flipped != sentence and not re.search(r"(요|니다|죠|까)\.$", flipped) else None


def plain_ending(ending: Token, tags: list[str], stem: str, form: str) -> str:
    """The plain ending for a polite one, or "" where none is certain.

    `tags` are those of all that stands before it, `stem` is the last part of that.
    """
    before = tags[-1] if tags else ""
    copula = before in ("VCP", "VCN")
    if form == "hae":
        others = {"네요": "네", "거든요": "거든", "지요": "지", "죠": "지", "세요": "어", "으세요": "어"}
        if ending.form in others:
            return others[ending.form]
        return ("야" if copula else "어") if ending.form in ("어요", "아요", "에요", "예요", "습니다", "ᆸ니다") else ""
    if ending.form not in ("어요", "아요", "에요", "예요", "습니다", "ᆸ니다", "지요", "죠"):
        return ""
    if stem == "싶":  # 먹고 싶다
        return "다"
    if before == "VX":  # 쓰지 않는다, 좋지 않다: as the verb or adjective before it
        before = next((tag for tag in reversed(tags) if tag[:2] in ("VV", "VA", "XS")), "")
    if copula or before[:2] in ("EP", "VA") or before.startswith("XSA"):
        return "다"
    return "ᆫ다" if before[:2] == "VV" or before.startswith("XSV") else ""


def too_short(answer: str, question: str, turn: int, rng: random.Random) -> tuple[str, str]:
    return rng.choice(
        ("네, 맞아요.", "아니요.", "좋아요.", "모르겠어요.", "그럼요.", "해 보세요.", "글쎄요.", "그래요.")
    ), "curt"


def rambling(answer: str, question: str, turn: int, rng: random.Random) -> tuple[str, str]:
    """The answer said again at length without saying more."""
    parts = prose(answer)
    noun = main_noun(answer)
    variant = ("stuffing", "restating", "hesitation", "importance")[turn % 4]
    if variant == "stuffing":
        open_ended = rng.sample(["정보", "자료", "사례", "주제"], 3)  # before 와, 를, 로
        closed = rng.sample(["의견", "방법", "경험", "관점"], 2)  # before 을, 에서
        more = (
            f"{noun}에 대해서는 다양한 {open_ended[0]}와 다양한 {open_ended[1]}를 다양하게 살펴보는 것이 좋습니다. "
            f"또한 {noun}에 대해 다양한 {open_ended[2]}로 다양한 {closed[0]}을 접하는 것이 좋습니다. "
            f"그리고 {noun}에 대해 다양한 {closed[1]}에서 다양하게 생각해 보는 것도 좋습니다."
        )
        return f"{answer} {more}", variant
    if variant == "restating":
        said = parts[-1]
        return f"{answer} 다시 말해서 {said} 그러니까 {said} 한마디로 말하면 {said} 결국 {said}", variant
    if variant == "hesitation":
        words = answer.split()
        fillers = ("음, 그러니까 뭐랄까,", "어, 그러니까 그게,", "음, 뭐랄까 그러니까,")
        spots = range(3, len(words), 4)
        for count, spot in enumerate(spots):
            words.insert(spot + count, fillers[count % 3])
        return " ".join(words), variant
    more = (
        f"{noun}은 정말 중요합니다. 아주 중요하고 매우 중요합니다. "
        f"무엇보다 중요한 것이 {noun}이라서 중요하다고 할 수 있습니다. "
        f"그만큼 {noun}이 중요하기 때문에 중요하게 생각하는 것이 중요합니다."
    )
    return f"{answer} {more}", variant


def main_noun(answer: str) -> str:
    nouns = [token.form for token in kiwi().tokenize(answer) if token.tag == "NNG" and len(token.form) > 1]
    # one that ends in a consonant, for 은 and 이
    closed = [noun for noun in nouns if (ord(noun[-1]) - 0xAC00) % 28]
    if not closed:
        raise Untouchable
    return max(closed, key=closed.count)


def repetition(answer: str, question: str, turn: int, rng: random.Random) -> tuple[str, str]:
    parts = prose(answer)
    variant = ("loop", "near_loop", "doubled", "phrase_loop", "counter")[turn % 5]
    last = parts[-1]
    if variant == "loop":
        return " ".join(parts + [last] * rng.randint(2, 6)), variant
    if variant == "near_loop":
        leads = rng.sample(["또한", "그리고", "물론", "역시", "특히", "늘", "꼭"], rng.randint(2, 4))
        return " ".join(parts + [f"{lead} {last}" for lead in leads]), variant
    if variant == "doubled":
        return " ".join(part for part in parts for _ in range(2)), variant
    words = answer.split()
    spot = rng.randrange(1, len(words) - 3)
    if variant == "phrase_loop":
        phrase = words[spot : spot + 2]
        return " ".join(words[:spot] + phrase * rng.randint(4, 8) + words[spot + 2 :]), variant
    stem = re.sub(r"[.!?]+$", "", last)
    return " ".join(parts + [f"{number}. {stem}." for number in range(2, rng.randint(5, 8))]), variant


STRANGE = {
    "han": ("重要", "方法", "时间", "情况", "基本", "自然", "问题", "纯净"),
    "kana": ("とても", "ちゃんと", "カード", "すぐに", "ありがとう"),
    "cyrillic": ("важно", "время", "очень", "просто"),
    "thai_arabic": ("มาก", "เวลา", "مهم", "وقت"),
    "broken_bytes": ("\ufffd\ufffd", "\ufffd"),
}


def strange_characters(answer: str, question: str, turn: int, rng: random.Random) -> tuple[str, str]:
    """A word of another script in the middle of a sentence, alone or grown together with its Korean neighbour."""
    prose(answer)
    if re.search(r"한자|일본|중국|러시아|태국|아랍|외국어|번역|영어", question + answer):
        raise Untouchable  # there it may be right
    variant = list(STRANGE)[turn % len(STRANGE)]
    words = answer.split()
    spot = rng.randrange(1, len(words) - 1)
    foreign = rng.choice(STRANGE[variant])
    words[spot] = foreign + words[spot][-1] if rng.random() < 0.5 and len(words[spot]) > 2 else foreign
    return " ".join(words), variant


def chat_slang(answer: str, question: str, turn: int, rng: random.Random) -> tuple[str, str]:
    parts = prose(answer)
    variant = ("greeting", "laughing", "initials", "words", "crying")[turn % 5]
    if variant == "greeting":
        return f"{rng.choice(('ㅎㅇㅎㅇ', 'ㅎㅇ', 'ㅇㅇ', '하이루~'))} {answer}", variant
    place = rng.randrange(len(parts))
    bare = re.sub(r"[.!?]+$", "", parts[place])
    if variant == "laughing":
        parts[place] = f"{bare} {rng.choice(('ㅋㅋ', 'ㅋㅋㅋㅋ', 'ㅎㅎㅎ', 'ㅋㅋㅋㅋㅋㅋㅋ'))}"
        return " ".join(parts), variant
    if variant == "crying":
        parts[place] = f"{bare} {rng.choice(('ㅠㅠㅠ', 'ㅠㅠㅠㅠ', 'ㅜㅜㅜ'))}"
        return " ".join(parts), variant
    initials = (
        "ㄹㅇ 이건 ㅇㅈ이에요.",
        "ㅇㅋ? 그럼 ㄱㄱ하세요.",
        "이거 ㄹㅇ이에요.",
        "ㄴㄴ 걱정 마세요.",
        "ㅊㅋㅊㅋ 드려요.",
    )
    words = (
        "이거 개꿀이에요.",
        "완전 레알이에요.",
        "핵꿀팁이죠.",
        "진짜 쩔어요.",
        "킹받을 수도 있어요.",
        "존맛이에요.",
        "완전 노답이에요.",
    )
    parts.insert(place, rng.choice(initials if variant == "initials" else words))
    return " ".join(parts), variant


LEAKS = {
    "own": ("{a}\n\n### User:\n고마워요. 하나 더 물어볼게요.", "### Assistant:\n{a}", "{a}\n### Assistant:"),
    "chatml": ("{a}<|im_end|>", "{a}<|im_end|>\n<|im_start|>user\n그럼 다음은요?", "<|im_start|>assistant\n{a}"),
    "llama": ("[INST] {q} [/INST] {a}", "{a} [/INST]", "{a}</s>", "{a}<|eot_id|>"),
    "gemma": ("{a}<end_of_turn>", "{a}<end_of_turn>\n<start_of_turn>user\n다음 질문이에요."),
    "alpaca": ("### 응답:\n{a}", "{a}\n\n### 명령어:\n다음을 설명해 주세요.", "### Response:\n{a}"),
    "names": (
        "{a}\n\nHuman: 고마워요.\n\nAssistant: 네.",
        "{a}\n사용자: 그럼 다음은요?\n어시스턴트: 알려 드릴게요.",
        "질문: {q}\n답변: {a}",
    ),
    "end_of_text": ("{a}<|endoftext|>", "{a}<eos>", "{a}<|end|>"),
}


def template_leak(answer: str, question: str, turn: int, rng: random.Random) -> tuple[str, str]:
    variant = list(LEAKS)[turn % len(LEAKS)]
    return rng.choice(LEAKS[variant]).format(a=answer, q=question), variant


def cut_off(answer: str, question: str, turn: int, rng: random.Random) -> tuple[str, str]:
    """The last sentence stops in the middle: inside a word, or after one that cannot end it."""
    parts = prose(answer, least=3)
    variant = ("mid_word", "mid_sentence")[turn % 2]
    words = parts[-1].split()
    if len(words) < 4:
        raise Untouchable
    count = rng.randrange(2, len(words) - 1)
    kept = words[:count]
    if variant == "mid_word":
        word = re.sub(r"[^가-힣]+$", "", words[count])
        if len(word) < 3:
            raise Untouchable
        kept.append(word[: rng.randrange(1, len(word) - 1)])
    cut = " ".join([*parts[:-1], " ".join(kept)])
    if re.search(r"(요|다|죠|까|[.!?])$", cut):  # that could be an end after all
        raise Untouchable
    return cut, variant


DAMAGES: dict[str, Callable[[str, str, int, random.Random], tuple[str, str]]] = {
    "mixed_speech_level": mixed_speech_level,
    "too_short": too_short,
    "rambling": rambling,
    "repetition": repetition,
    "strange_characters": strange_characters,
    "chat_slang": chat_slang,
    "template_leak": template_leak,
    "cut_off": cut_off,
}
