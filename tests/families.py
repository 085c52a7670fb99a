"""Tiny models and tokenizers with the special tokens of the families that recipes/ has, made like those of conftest.py."""

from __future__ import annotations

from pathlib import Path

from conftest import SENTENCES, Tiny, make_gemma, make_llama

# What Qwen's and Llama 3's tokenizers split text by before merging: line breaks stay together, apart from words.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA_2 = (  # KULLM3's rendering as its page shows it: a system prompt always, [INST] turns, eos after answers
    "{% set own = messages[0].role == 'system' %}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' }}{% if loop.index0 == (1 if own else 0) %}{{ '<<SYS>>\n' + "
    "(messages[0].content if own else '당신은 AI 챗봇입니다.') + '\n<</SYS>>\n\n' }}{% endif %}"
    "{{ m.content.strip() + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def make_eeve(folder: Path) -> Tiny:
    """SOLAR's vocabulary with `<|im_end|>` as eos and `</s>` as pad."""
    return _grow(make_llama(folder), ["<|im_end|>", "<|im_start|>"], eos_token="<|im_end|>", pad_token="</s>")


def make_kullm3(folder: Path) -> Tiny:
    return _grow(make_llama(folder), [], chat_template=LLAMA_2)


def make_gemma3(folder: Path) -> Tiny:
    """Gemma 3 as its 4B is: a vision tower beside the language model; eos is `<eos>`, which no turn ends with."""
    import torch
    from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

    text = make_gemma(folder).model().config
    _grow(Tiny(folder), ["<start_of_turn>", "<end_of_turn>"])
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
              "patch_size": 14}  # fmt: skip
    words = {**text.to_dict(), "vocab_size": len(AutoTokenizer.from_pretrained(folder))}
    torch.manual_seed(0)
    config = Gemma3Config(text_config=words, vision_config=vision, mm_tokens_per_image=4)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    return Tiny(folder)


def make_qwen3(folder: Path) -> Tiny:
    """No bos; `<think>` is a token but not a special one."""
    from transformers import Qwen3Config

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return _byte_level(folder, Qwen3Config, special, ["<think>", "</think>"], eos_token="<|im_end|>", pad_token="<|endoftext|>")


def make_qwen2_5(folder: Path) -> Tiny:
    from transformers import Qwen2Config

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return _byte_level(folder, Qwen2Config, special, [], eos_token="<|im_end|>", pad_token="<|endoftext|>")


def make_llama3_1(folder: Path) -> Tiny:
    """eos is the base model's `<|end_of_text|>`, no pad token."""
    from transformers import LlamaConfig

    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
               "<|finetune_right_pad_id|>"]  # fmt: skip
    return _byte_level(folder, LlamaConfig, special, [], bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


def make_llama3(folder: Path) -> Tiny:
    """As 3.1, but the token that 3.1 pads with is a reserved one."""
    from transformers import LlamaConfig

    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>",
               "<|end_header_id|>", "<|eot_id|>"]  # fmt: skip
    return _byte_level(folder, LlamaConfig, special, [], bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


MAKE = {
    "llama3": make_llama3,
    "eeve": make_eeve,
    "kullm3": make_kullm3,
    "qwen2_5": make_qwen2_5,
    "qwen3": make_qwen3,
    "llama3_1": make_llama3_1,
    "gemma3": make_gemma3,
}


def _grow(tiny: Tiny, tokens: list[str], **settings: str) -> Tiny:
    """More special tokens, and rows for them in the embedding."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.folder)
    tokenizer.add_tokens(tokens, special_tokens=True)
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(tiny.folder)
    if tokens:
        model = tiny.model()
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model.save_pretrained(tiny.folder)
    return tiny


def _byte_level(folder: Path, config_class: type, special: list[str], plain: list[str], **names: str) -> Tiny:
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([*SENTENCES, "\n\n", "user\nassistant\nsystem\n\n"] * 2, trainer)
    backend.add_tokens(plain)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=2048, clean_up_tokenization_spaces=False, **names
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=2048, initializer_range=0.2, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return Tiny(folder)
