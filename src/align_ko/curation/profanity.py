"""Swear words by a list, profanity.txt or the user's own: `이런 씨발, 또 틀렸네요.` is found, `변화의 시발점이 되었습니다.` and
`병신년에 태어났습니다.` are not. A word counts where a word begins; the list names the innocent ones that begin the same."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from align_ko.errors import UserError
from align_ko.korean.prose import own_words

SHIPPED = Path(__file__).with_name("profanity.txt")
_ABOUT_WORDS = re.compile(r"욕설|비속어|욕(?:이|은|을|의|인)|어원|뜻|의미|유래")


def find_profanity(text: str, question: str = "", file: str = "") -> str:
    """The first swear word of `text`, or ""; none where it is quoted in an answer to a question about words."""
    bare, pattern = load_list(file)
    found = bare.search(text.lower()) and pattern.search(text)
    if found and _ABOUT_WORDS.search(question):
        found = pattern.search(own_words(text))
    return found[0] if found else ""


@lru_cache(maxsize=8)
def load_list(file: str = "") -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The words of a list ("": the shipped one) as two patterns, a quick one for lower case without borders and the exact one.
    UserError for a file that is not there or has no word."""
    path = Path(file) if file else SHIPPED
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise UserError(f"profanity list: {problem}", file=path, expected="a text file, one word a line") from None
    words = [word for line in lines if (word := line.strip()) and not word.startswith("#")]
    innocent = [re.escape(word[1:]) for word in words if word.startswith("-") and len(word) > 1]
    anywhere = [re.escape(word[1:]) for word in words if word.startswith("*") and len(word) > 1]
    at_start = [re.escape(word) for word in words if word[0] not in "-*"]
    if not anywhere and not at_start:
        raise UserError("profanity list: no word in it", file=path, expected="one word a line")
    spared = f"(?!{'|'.join(innocent)})" if innocent else ""
    latin = [word for word in at_start if word.isascii()]
    korean = [word for word in at_start if not word.isascii()]
    choices = [rf"(?<![가-힣ㄱ-ㅣ]){spared}(?:{'|'.join(korean)})"] if korean else []
    choices += [rf"(?<![A-Za-z])(?:{'|'.join(latin)})(?![A-Za-z])"] if latin else []
    choices += anywhere
    bare = "|".join(anywhere + at_start).lower()  # plain words only: `re` looks for their first letters at C speed
    return re.compile(bare), re.compile("|".join(choices), re.IGNORECASE)
