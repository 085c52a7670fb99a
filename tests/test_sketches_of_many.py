"""Sketches of many texts at once: to the bit what each text gives when worked out on its own.

The plain way of each stands here, character by character, as it was before numpy took many texts at a time.
"""

from __future__ import annotations

import hashlib
import re
import struct
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_ko.curation import code_points
from align_ko.curation.sketches import FEW, JAMO, LONGEST, MANY, SHORT_BODY, letters, signatures, sketch, sketches

FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xBF58476D1CE4E5B9)
QUOTED = re.compile(r"""["'“‘「『<]([^"'“”‘’「」『』<>\n]{1,40})["'”’」』>]""")
WORD = 2**64 - 1
ODD = [
    "", " ", "\n", "\0", "\0\0", "가\0나", "\0" * 7, "!?", "…", "네", "a", "ㅎㅏㄴ", "1", "12\00034", "\x01가\x01",
    unicodedata.normalize("NFD", "사과는 왜 빨간가요?"), "Ａｐｐｌｅ ㎏ ㈜ ﬁ ß İ", "é ñ ǖ が プ", "\u0301가", "\ud800",
    "\ud800가나다라마바사아자차", "\udc00\ud800", "🙂" * 50, "𠮷" * 200, "한국의 수도: 서울", "´: 1", "다음 낱말\n배",
    "'사과'는 영어로 뭐예요?", '"가\n나" 「1970년대」 <b>', "١٢٣ １２ ² ½ ⅷ", "ᄀᄀᄀ가각ᆨ", "\U0002f800 ﷺ" * 30,
    "A\u0345\u0300b", "\u1100\u1161\u11a8" * 40,
]  # fmt: skip
LONG = ["ㅋ" * 30_000, "가나다라마 " * 4_000 + "끝", "1" * 25_000, "ﷺ" * 21_000]
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.text("가각힣나다라요ㄱㅏ각 0１2:'\"「」\n.\0éÉ\u0301ＡaA🙂", max_size=300),
        st.sampled_from(ODD),
        st.integers(0, 2 * FEW).map(lambda size: "바나나를먹는거북이"[: size % 9] + "도" * (size // 2)),
    ),
    max_size=12,
)


def plain_runs(text: str) -> list[int]:
    codes = [0] * (JAMO - 1) + [ord(letter) for letter in unicodedata.normalize("NFD", text) if letter.isalnum()]
    runs = []
    for place in range(len(codes) - JAMO + 1):
        a, b, c, d, e, f = codes[place : place + JAMO]
        run = (a * FACTORS[0] + b * FACTORS[1] + c) * FACTORS[2] + d * FACTORS[0] + e * FACTORS[1] + f & WORD
        run = (run ^ run >> 31) * FACTORS[3] & WORD
        runs.append(run ^ run >> 29)
    return runs


def plain_facts(text: str) -> bytes:
    found = {"".join(filter(str.isalnum, quoted)) for quoted in QUOTED.findall(text)} | set(re.findall(r"\d+", text))
    body = text[max(text.rfind(":"), text.rfind("\n")) + 1 :]
    if len(body) <= SHORT_BODY and len(body) < len(text):
        found.add("".join(filter(str.isalnum, body)))
    said = "\x1f".join(sorted(found - {""})).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=8).digest() if said else bytes(8)


def plain_sketch(text: str) -> bytes:
    text = unicodedata.normalize("NFKC", text[:LONGEST].strip()).casefold()
    runs = plain_runs(text)
    if not runs:
        return bytes(16)
    begun = sum(letter.isalnum() and not "\u1160" <= letter < "\u1200" for letter in unicodedata.normalize("NFD", text))
    few = sorted({run >> 32 for run in runs}) if len(runs) <= FEW else []
    made = struct.pack("=II", *struct.unpack("<II", plain_facts(text))) + struct.pack(
        f"={2 + len(few)}I", begun, len(few), *few
    )
    ends = np.array([0, len(runs)], dtype=np.uint64)
    return made + (signatures(np.array(runs, dtype=np.uint64), ends).tobytes() if len(runs) >= MANY else b"")


@pytest.fixture(params=[code_points.GROUP, 40], ids=["one group", "small groups"])
def grouped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_points, "GROUP", request.param)


@pytest.mark.usefixtures("grouped")
def test_odd_texts_together() -> None:
    texts = ODD[:20] + LONG + ODD[20:]
    plain = [plain_sketch(text) for text in texts]
    assert sketches(texts) == plain
    assert sketches(texts[::-1]) == plain[::-1]
    assert [sketch(text) for text in texts] == plain
    assert sketches([]) == []


@given(TEXTS)
@settings(deadline=None)
def test_sketches_of_many_are_those_of_each(texts: list[str]) -> None:
    assert sketches(texts) == [plain_sketch(text) for text in texts]


def test_every_size_around_what_is_kept_and_what_is_signed() -> None:
    texts = ["".join(chr(0x4E00 + place * size % 30) for place in range(size)) for size in range(MANY - 3, FEW + 4)]
    made = sketches(texts)
    assert made == [plain_sketch(text) for text in texts]
    assert [letters(one) for one in made] == list(map(len, texts))
    cut = [("나라말쌈이" * LONGEST)[: LONGEST + more] for more in (-1, 0, 1)]
    assert sketches(cut) == [plain_sketch(text) for text in cut]


def test_letters_of_every_code_point() -> None:
    """Letter by letter only holds while no mark is a letter and none decomposes into more than three."""
    codes = np.arange(1, 0x110000, dtype=np.uint32)
    decomposed = (unicodedata.normalize("NFD", chr(code)) for code in codes.tolist())
    assert "".join(map(chr, code_points.jamo(codes).tolist())) == "".join(filter(str.isalnum, "".join(decomposed)))
    assert not any(chr(code).isalnum() and unicodedata.combining(chr(code)) for code in codes.tolist())
