"""Tiny models and tokenizers made here, so that every test runs offline in seconds.

`llama`: SOLAR's way. SentencePiece-style BPE, `▁` put before each piece of text, a line break is a byte token; grouped-query
attention. `gemma`: the quickstart's way. No prefix, runs of line breaks are tokens of their own; sliding-window attention.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from align_ko.process import unlock_all_folders

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: two threads only wait for each other

SENTENCES = """\
안녕하세요! 무엇을 도와드릴까요? 오늘은 날씨가 맑고 바람이 시원합니다.
한국의 수도는 서울입니다. 서울에는 한강이 흐르고 남산이 있습니다.
김치찌개는 잘 익은 김치와 돼지고기를 넣고 끓이면 맛있습니다.
책을 읽으면 생각이 깊어지고 아는 낱말이 늘어납니다. 매일 조금씩 읽어 보세요.
물은 섭씨 100도에서 끓고 0도에서 업니다. 2 더하기 2는 4입니다.
세종대왕은 1443년에 훈민정음을 만들었습니다. 한글은 소리를 적는 글자입니다.
운동을 처음 시작하신다면 하루에 30분씩 걷기부터 해 보시는 것이 좋습니다.
친구와 다투었다면 먼저 사과하는 것이 어떨까요? 마음이 한결 가벼워질 거예요.
파이썬에서 목록을 거꾸로 놓으려면 reversed 함수를 쓰면 됩니다. print(list(reversed(numbers)))
비가 오는 날에는 우산을 챙기고 미끄러운 길을 조심하세요.
지구는 태양의 둘레를 한 해에 한 바퀴 돕니다. 달은 지구의 둘레를 돕니다.
제주도에는 한라산이 있고, 봄에는 유채꽃이 핍니다. 귤이 맛있는 곳이기도 합니다.
짧게 답하세요. 그럼 다음은 무엇인가요? 코드 보여 줘. 이렇게 쓰면 됩니다.
### User: ### Assistant: ### System: User: Assistant: System:
""".splitlines()
SHORT_ROWS = [  # a question and an answer that a tiny model can learn by heart
    ("한국의 수도는?", "서울입니다."),
    ("물은 언제 끓나요?", "100도에서 끓습니다."),
    ("2 더하기 2는?", "4입니다."),
    ("한글은 누가 만들었나요?", "세종대왕이 만들었습니다."),
    ("제주도에는 무엇이 있나요?", "한라산이 있습니다."),
    ("비가 오면?", "우산을 챙기세요."),
    ("안녕하세요", "안녕하세요! 무엇을 도와드릴까요?"),
    ("달은 어떻게 도나요?", "지구의 둘레를 돕니다."),
]
MULTI_TURN = [
    {"role": "system", "content": "짧게 답하세요."},
    {"role": "user", "content": "한국의 수도는?"},
    {"role": "assistant", "content": "서울입니다."},
    {"role": "user", "content": "그럼 2 더하기 2는?"},
    {"role": "assistant", "content": "4입니다. 맞지요?"},
]
BYTES = [f"<0x{value:02X}>" for value in range(256)]


def other_rows(count: int) -> list[dict]:
    """Rows to hold out, whose questions none of `rows()` asks."""
    other = []
    for row in rows()[:count]:
        first, *rest = row["messages"]
        other.append({**row, "messages": [{**first, "content": f"다시 묻습니다. {first['content']}"}, *rest]})
    return other


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def rows() -> list[dict]:
    """Curated rows: the short ones, and one of two turns with a system prompt."""
    every = [*(turns(*pair) for pair in SHORT_ROWS), MULTI_TURN]
    return [{"id": f"r{n}", "messages": messages, "source": "test"} for n, messages in enumerate(every)]


@dataclass(frozen=True)
class Tiny:
    """A folder that AutoTokenizer and AutoModelForCausalLM load."""

    folder: Path

    def tokenizer(self, chat_template: str | None = "default"):
        from align_ko.models.load import load_tokenizer

        return load_tokenizer(str(self.folder), chat_template)

    def model(self):
        import torch
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()


def _train_bpe(special: list[str], size: int, pre_tokenizer, normalizer) -> tuple[dict[str, int], list]:
    """Vocabulary (special tokens and bytes first) and merges."""
    from tokenizers import Tokenizer, models, trainers

    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer, trained.normalizer = pre_tokenizer, normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[*special, *BYTES], show_progress=False)
    trained.train_from_iterator(SENTENCES, trainer)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def make_llama(folder: Path) -> Tiny:
    """`<unk> <s> </s>`, byte fallback, no pad token, no chat template: what SOLAR's folder has."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

    words = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)  # SentencePiece never merges over a space
    vocabulary, merges = _train_bpe(["<unk>", "<s>", "</s>"], 700, words, None)
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=merges, legacy=True, model_max_length=2048)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"  # SOLAR's own says so; it makes `▁` come after every special token
    file.write_text(json.dumps({**json.loads(file.read_text()), "legacy": True}))
    return Tiny(folder)


def make_gemma(folder: Path) -> Tiny:
    """Cut down by cut_tokenizer from a vocabulary with foreign words and unused tokens."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    from align_ko.models.prepare import cut_tokenizer

    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    space, split = normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous")
    vocabulary, merges = _train_bpe(list(special), 700, pre_tokenizers.Split("▁", "merged_with_next"), space)
    breaks = ["\n" * count for count in range(1, 5)]
    for extra in ["<unused0>", "привет", *breaks]:
        vocabulary.setdefault(extra, len(vocabulary))
    whole = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    whole.normalizer, whole.pre_tokenizer = space, split
    whole.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    whole.add_special_tokens([AddedToken(token, normalized=False) for token in [*special, *breaks]])
    whole.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    tree, _ = cut_tokenizer(json.loads(whole.to_str()))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(tree)), pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", model_max_length=2048, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, sliding_window=16, layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=2048, initializer_range=0.2, pad_token_id=0, eos_token_id=1, bos_token_id=2,
        query_pre_attn_scalar=16,
    )  # fmt: skip
    torch.manual_seed(0)
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Tiny(folder)


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Tiny:
    return make_llama(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def gemma(tmp_path_factory) -> Tiny:
    return make_gemma(tmp_path_factory.mktemp("tiny") / "gemma")


@pytest.fixture(params=["llama", "gemma"])
def tiny(request) -> Tiny:
    """Both kinds, one after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def unlocked_folders():
    """A script's main that a test calls locks its folder until the process ends; here that is the test's end."""
    yield
    unlock_all_folders()


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; the test is skipped where none is installed."""
    api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        if not program and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium is installed")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
