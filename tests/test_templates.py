"""Each family's template: the published text, loss on answers and their closing token only, generation that stops there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import trl
from conftest import MULTI_TURN, SHORT_ROWS, rows, turns
from families import LLAMA_2, MAKE
from trl import DPOConfig, SFTConfig

from align_ko.chat_format import (
    IGNORE,
    RefusedConversation,
    answer_ids,
    check_format,
    conversation_ids,
    describe_format,
    prompt_ids,
    render,
    save_format,
    set_chat_template,
    training_rows,
)
from align_ko.errors import UserError
from align_ko.generation.local import generate_answers
from align_ko.models.load import greedy_config, load_base, load_for_inference, load_policy, load_tokenizer, lora_config
from align_ko.recipe import SftRecipe, load_recipe
from align_ko.training.audit import AuditError, audit_batches, audit_pairs
from align_ko.training.finish import save_stage
from align_ko.training.prepare import conversations_of, tokenize_conversations, tokenize_pairs, training_config
from align_ko.training.seams import AlignDPOTrainer, AlignSFTTrainer

ROOT = Path(__file__).parents[1]
RECIPES = {
    "llama3": "llama3_1_8b",
    "eeve": "eeve",
    "kullm3": "kullm3",
    "qwen2_5": "qwen3_8b",
    "qwen3": "qwen3_8b",
    "llama3_1": "llama3_1_8b",
    "gemma3": "gemma3_4b",
}
TURN_END = {"eeve": "<|im_end|>", "kullm3": "</s>", "qwen2_5": "<|im_end|>", "qwen3": "<|im_end|>",
            "llama3": "<|eot_id|>", "llama3_1": "<|eot_id|>", "gemma3": "<end_of_turn>"}  # fmt: skip
THINK = "<think>\n\n</think>\n\n"
EEVE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.\n"
)
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
HARD = [*MULTI_TURN, *turns(" 코드 보여 줘\n", "```python\nprint(1)\n```")]


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Each family's folder, made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = MAKE[name](tmp_path_factory.mktemp("family") / name)
        return made[name]

    return get


@pytest.fixture(params=MAKE)
def family(request, families):
    """(name, folder, tokenizer as run_sft.py loads it from the family's recipe)."""
    tiny = families(request.param)
    return request.param, tiny, load_tokenizer(str(tiny.folder), recipe_of(request.param, tiny).data.chat_template)


def recipe_of(name, tiny, *flags) -> SftRecipe:
    path = ROOT / "recipes" / RECIPES[name] / "sft.yaml"
    small = ["--model.model_name_or_path", str(tiny.folder), "--model.dtype", "float32", "--model.load_in_4bit", "false"]
    small += ["--data.chat_template", name] if name in ("llama3", "qwen2_5") else []  # as the page of llama3_1_8b says
    return load_recipe(SftRecipe, [str(path), *small, *flags])


# The text ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "options"),
    [
        ("qwen2_5", "qwen2_5", {}),
        ("qwen3", "qwen3", {"enable_thinking": False}),
        ("gemma3", "gemma3", {}),
        ("llama3", "llama3", {}),
        ("llama3_1", "llama3_1", {}),
    ],
)
@pytest.mark.parametrize("asked", [False, True])
def test_the_text_is_the_published_one(families, name, file, options, asked):
    """TRL keeps the published templates to recognise them; ours must write the same."""
    published = (Path(trl.__file__).parent / "chat_templates" / f"{file}.jinja").read_text(encoding="utf-8")
    tokenizer = families(name).tokenizer(name)
    for messages in (turns("한국의 수도는?", "서울입니다."), MULTI_TURN, MULTI_TURN[1:]):
        part = messages[:-1] if asked else messages
        theirs = tokenizer.apply_chat_template(
            part, tokenize=False, add_generation_prompt=asked, chat_template=published, **options
        )
        assert render(tokenizer, part, add_generation_prompt=asked) == theirs


def test_the_text_is_exactly_this(families):
    said = {name: render(load_tokenizer(str(families(name).folder), name), MULTI_TURN) for name in ("eeve", "qwen3", "gemma3")}
    assert said["eeve"] == (
        "<s>짧게 답하세요.\nHuman: 한국의 수도는?\nAssistant:\n서울입니다.<|im_end|>\n"
        "Human: 그럼 2 더하기 2는?\nAssistant:\n4입니다. 맞지요?<|im_end|>\n"
    )
    assert said["qwen3"] == (
        "<|im_start|>system\n짧게 답하세요.<|im_end|>\n<|im_start|>user\n한국의 수도는?<|im_end|>\n"
        "<|im_start|>assistant\n서울입니다.<|im_end|>\n<|im_start|>user\n그럼 2 더하기 2는?<|im_end|>\n"
        f"<|im_start|>assistant\n{THINK}4입니다. 맞지요?<|im_end|>\n"
    )
    assert said["gemma3"] == (
        "<bos><start_of_turn>user\n짧게 답하세요.\n\n한국의 수도는?<end_of_turn>\n"
        "<start_of_turn>model\n서울입니다.<end_of_turn>\n"
        "<start_of_turn>user\n그럼 2 더하기 2는?<end_of_turn>\n<start_of_turn>model\n4입니다. 맞지요?<end_of_turn>\n"
    )
    eeve, llama = (load_tokenizer(str(families(name).folder), name) for name in ("eeve", "llama3_1"))
    asked = render(eeve, [{"role": "user", "content": " 안녕하세요\n"}], add_generation_prompt=True)
    assert asked == f"<s>{EEVE}Human: 안녕하세요\nAssistant:\n"  # the model card's prompt
    begins = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n" + DATES
    follows = "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n한국의"
    assert render(llama, MULTI_TURN).startswith(f"{begins}짧게 답하세요.{follows}")
    assert render(llama, MULTI_TURN[1:]).startswith(f"{begins}{follows}")


# The masks -----------------------------------------------------------------------------------------------------------------


def supervised(encoded):
    """The runs of labels, each checked against the id it stands on."""
    runs, last = [], -2
    for place, (token, label) in enumerate(zip(encoded.input_ids, encoded.labels, strict=True)):
        assert label in (IGNORE, token)
        if label != IGNORE:
            runs = [*runs, [label]] if place != last + 1 else [*runs[:-1], [*runs[-1], label]]
            last = place
    return runs


def test_every_answer_and_its_closing_token_are_trained_once_and_nothing_else(family):
    name, _, tokenizer = family
    end = TURN_END[name]
    assert tokenizer.eos_token == end
    found = [tokenizer.decode(run).strip() for _, row in training_rows(tokenizer, HARD) for run in supervised(row)]
    expected = ["서울입니다.", "4입니다. 맞지요?", "```python\nprint(1)\n```"]
    gap = " " if name == "kullm3" else ""  # Llama 2 writes a space before eos
    assert found == [f"{answer}{gap}{end}" for answer in expected]


def test_training_begins_with_the_ids_inference_asks_with(family):
    name, _, tokenizer = family
    parts = training_rows(tokenizer, HARD)
    assert len(parts) == (3 if name == "qwen3" else 1)
    for messages, encoded in parts:
        own = [len(messages) - 1] if len(parts) > 1 else [turn for turn, m in enumerate(messages) if m["role"] == "assistant"]
        for turn in own:
            asked = prompt_ids(tokenizer, messages[:turn])
            assert encoded.input_ids[: len(asked)] == asked
            assert encoded.labels[len(asked) - 1] == IGNORE != encoded.labels[len(asked)]
        theirs = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert encoded.input_ids == theirs


def test_bos_is_not_doubled(family):
    name, _, tokenizer = family
    ids = training_rows(tokenizer, MULTI_TURN)[-1][1].input_ids
    count = 2 if name == "kullm3" else 1  # Llama 2's way: one before each [INST]
    if name.startswith("qwen"):
        assert tokenizer.bos_token is None
    else:
        assert ids.count(tokenizer.bos_token_id) == count and ids[0] == tokenizer.bos_token_id != ids[1]


def test_qwen3_trains_each_answer_after_an_empty_think_block_that_is_not_trained(families):
    tokenizer = load_tokenizer(str(families("qwen3").folder), "qwen3")
    parts = training_rows(tokenizer, MULTI_TURN)
    texts = [tokenizer.decode(encoded.input_ids) for _, encoded in parts]
    assert [text.count(THINK) for text in texts] == [1, 1]  # before the answer that is asked for, not in the history
    assert texts[1].index(THINK) > texts[1].index("서울입니다.")
    assert [len(messages) for messages, _ in parts] == [3, 5]
    thought = turns("수도는?", "<think>\n음\n</think>\n\n서울입니다.")
    assert "음" not in render(tokenizer, thought)  # thinking is left out


def test_pad_is_never_the_closing_token(family):
    name, _, tokenizer = family
    pads = {
        "eeve": "</s>",
        "kullm3": "<unk>",
        "llama3": "<|reserved_special_token_0|>",
        "qwen2_5": "<|endoftext|>",
        "qwen3": "<|endoftext|>",
        "gemma3": "<pad>",
    }
    assert (
        tokenizer.pad_token == pads.get(name, "<|finetune_right_pad_id|>") and tokenizer.pad_token_id != tokenizer.eos_token_id
    )


# Training and generation ---------------------------------------------------------------------------------------------------

QUICK = {"max_steps": 2, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 1, "learning_rate": 1e-3,
         "save_strategy": "no", "eval_strategy": "no", "load_best_model_at_end": False, "logging_steps": 1, "bf16": False,
         "disable_tqdm": True}  # fmt: skip


def trained(name, tiny, folder, *flags):
    """Two steps of the family's SFT recipe (its own keys but sizes and paths), audited: the trainer, and what was seen."""
    recipe = recipe_of(name, tiny, *flags)
    tokenizer = load_tokenizer(str(tiny.folder), recipe.data.chat_template)
    config = training_config(SFTConfig, {**recipe.training, **QUICK, "output_dir": str(folder)}, "float32")
    data, too_long = tokenize_conversations(tokenizer, rows(), config.max_length)
    assert too_long == []
    model = load_base(recipe.model, tokenizer)
    trainer = AlignSFTTrainer(
        model=model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=lora_config(recipe.model)
    )
    held = conversations_of(data, rows())
    seen = audit_batches(trainer.get_train_dataloader(), tokenizer, held, model.generation_config.eos_token_id)
    trainer.train()
    save_stage(trainer, tokenizer, False, torch.float32)
    return trainer, seen


def test_two_steps_of_sft_and_dpo_by_the_familys_recipe(family, tmp_path):
    name, tiny, _ = family
    trainer, seen = trained(name, tiny, tmp_path / "sft")
    assert seen["rows"] == (10 if name == "qwen3" else 9)  # nine conversations, one of two answers
    adapted = {key for key, value in trainer.model.named_parameters() if value.requires_grad}
    assert len(adapted) == 2 * 7 * 2  # both matrices, seven modules, two layers; none in a vision tower
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())

    model, again, new_adapter = load_policy(str(tmp_path / "sft"), None)  # refuses a format that changed
    assert new_adapter is None and again.eos_token == TURN_END[name]
    pairs = [
        {"id": f"p{n}", "prompt": messages[:-1], "chosen": messages[-1:], "rejected_finished": n % 2 == 0,
         "rejected": [{"role": "assistant", "content": "네 네 네"}]}
        for n, messages in enumerate([*(turns(*row) for row in SHORT_ROWS[:3]), MULTI_TURN])
    ]  # fmt: skip
    data, _ = tokenize_pairs(again, pairs, 512)
    options = {**QUICK, "per_device_train_batch_size": 2, "output_dir": str(tmp_path / "dpo"), "max_length": 512}
    config = training_config(DPOConfig, options, "float32")
    dpo = AlignDPOTrainer(model=model, args=config, train_dataset=data, processing_class=again)
    checked = audit_pairs(dpo.get_train_dataloader(), again, {pair["id"]: pair for pair in pairs}, data)
    assert checked == {"pairs": 4, "open": 2}
    dpo.train()
    first = next(entry["loss"] for entry in dpo.state.log_history if "loss" in entry)
    assert first == pytest.approx(0.6931, abs=1e-3)  # the reference is the SFT adapter: ln 2


def test_generation_stops_at_the_closing_token(family):
    name, tiny, tokenizer = family
    model = tiny.model()
    config = greedy_config(tokenizer)
    assert config.eos_token_id == tokenizer.convert_tokens_to_ids(TURN_END[name])
    answers = generate_answers(Ending(model, int(config.eos_token_id)), tokenizer, [MULTI_TURN[:2]], max_new_tokens=5)
    assert [(answer.text, answer.finished, answer.tokens) for answer in answers] == [("", True, 1)]


class Ending:
    """A model whose likeliest token is always `token`."""

    def __init__(self, model, token):
        self.model, self.token, self.device, self.config = model, token, model.device, model.config

    def generate(self, **inputs):
        model, token = self.model, self.token
        hook = model.lm_head.register_forward_hook(
            lambda _, __, logits: torch.nn.functional.one_hot(torch.full(logits.shape[:-1], token), logits.shape[-1]).float()
        )
        try:
            return model.generate(**inputs)
        finally:
            hook.remove()


# The checkpoint's own template ---------------------------------------------------------------------------------------------


def test_the_checkpoints_own_template_is_kept_and_fingerprinted(families, tmp_path):
    folder = families("kullm3").folder
    tokenizer = load_tokenizer(str(folder), "tokenizer")
    assert tokenizer.chat_template == LLAMA_2 and tokenizer.eos_token == "</s>"
    tokenizer.save_pretrained(tmp_path)
    save_format(tmp_path, tokenizer, tokenizer.eos_token_id)
    check_format(tmp_path, load_tokenizer(str(tmp_path)), tokenizer.eos_token_id)
    other = load_tokenizer(str(tmp_path), "default")
    with pytest.raises(UserError, match="chat_template was"):
        check_format(tmp_path, other, other.eos_token_id)


def test_without_a_template_of_its_own_that_is_told(families):
    with pytest.raises(UserError) as raised:
        load_tokenizer(str(families("eeve").folder), "tokenizer")
    assert str(raised.value) == (
        "chat_template: this tokenizer brings no chat template; expected a model that was tuned for chat, or one of "
        "default, eeve, gemma3, llama3, llama3_1, qwen2_5, qwen3"
    )


def test_a_template_of_another_family_is_told(llama, families):
    with pytest.raises(UserError, match=r"the template gemma3 closes an answer with '<end_of_turn>', which is no token"):
        load_tokenizer(str(llama.folder), "gemma3")
    with pytest.raises(UserError, match=r"own\.jinjja: chat_template: chat template not found; expected one of"):
        set_chat_template(llama.tokenizer(), "own.jinjja")
    default = load_tokenizer(str(families("qwen3").folder), "default")  # our format on a family's base
    assert supervised(conversation_ids(default, MULTI_TURN))[0][-1] == default.eos_token_id != default.pad_token_id


def test_a_template_that_refuses_system_messages_is_told_in_its_own_words(families):
    tokenizer = load_tokenizer(str(families("gemma3").folder), "gemma3")
    tokenizer.chat_template = (  # what Gemma 2's says
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>assistant\n' }}{% endif %}"
    )
    with pytest.raises(RefusedConversation, match="the chat template refuses this conversation: System role not supported"):
        prompt_ids(tokenizer, MULTI_TURN[:2])
    with pytest.raises(UserError, match=r"row 9 \(id r8\): the chat template refuses .*: System role not supported"):
        tokenize_conversations(tokenizer, rows(), None)
    assert describe_format(tokenizer, 1)["fixed_conversation_ids"][1] is None  # and is fingerprinted all the same


def test_qwens_own_template_would_have_the_think_block_trained_and_the_audit_refuses(families, tmp_path):
    tiny = families("qwen3")
    tokenizer = load_tokenizer(str(tiny.folder))
    published = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")
    tokenizer.chat_template = published
    data, _ = tokenize_conversations(tokenizer, rows()[:3], None)
    batch = {"input_ids": torch.tensor([data["input_ids"][0]]), "labels": torch.tensor([data["labels"][0]])}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    with pytest.raises(AuditError, match="not on the whole answer"):
        audit_batches([batch], tokenizer, conversations_of(data, rows()), tokenizer.eos_token_id)


SOLAR_INSTRUCT = (  # what upstage/SOLAR-10.7B-Instruct-v1.0 brings: our turns, no bos, nothing after an answer
    "{% for m in messages %}{% if m.role == 'system' %}{{ '### System:\n' + m.content + '\n\n' }}{% elif m.role == 'user' %}"
    "{{ '### User:\n' + m.content + '\n\n' }}{% elif m.role == 'assistant' %}{{ '### Assistant:\n' + m.content }}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}{% endfor %}"
)


def test_solar_instructs_own_template_would_never_teach_to_stop_and_that_is_told(llama, tmp_path):
    """Before the first step, in one sentence: open_run looks at the format first, and its refusal was a bare ValueError."""
    tokenizer = llama.tokenizer()
    ours = render(tokenizer, MULTI_TURN[:2], add_generation_prompt=True)
    tokenizer.chat_template = SOLAR_INSTRUCT
    assert f"<s>{render(tokenizer, MULTI_TURN[:2], add_generation_prompt=True)}" == ours  # one question: what it was tuned with
    for kind, messages in (("describe", None), ("rows", rows())):
        with pytest.raises(
            UserError, match=r"data\.chat_template: .* with nothing, not with '</s>'.*; expected default \(for SOLAR"
        ):
            describe_format(tokenizer, 2) if kind == "describe" else tokenize_conversations(tokenizer, messages, None)
    tokenizer.chat_template = SOLAR_INSTRUCT.replace(
        "+ m.content }}{% endif %}{% if loop", "+ m.content + '<|끝|>' }}{% endif %}{% if loop"
    )
    with pytest.raises(UserError, match=r"with '<\|끝\|>', which is no token of this tokenizer, not with '</s>'"):
        tokenize_conversations(tokenizer, rows(), None)


def test_an_untrained_model_is_asked_in_the_named_template_and_a_trained_one_in_its_own(families, tmp_path):
    tiny = families("kullm3")
    assert load_for_inference(str(tiny.folder), "float32")[1].chat_template == LLAMA_2
    assert "Human: " in load_for_inference(str(tiny.folder), "float32", "eeve")[1].chat_template
    trained("kullm3", tiny, tmp_path / "sft")
    assert load_for_inference(str(tmp_path / "sft"), "float32", "eeve")[1].chat_template == LLAMA_2


def test_answer_ids_in_a_long_conversation_are_what_follows_the_prompt(family):
    _, _, tokenizer = family
    prompt = [*MULTI_TURN, {"role": "user", "content": "하나 더요"}]
    ids = answer_ids(tokenizer, prompt, "네, 있습니다.")
    whole = training_rows(tokenizer, [*prompt, {"role": "assistant", "content": "네, 있습니다."}])[-1][1].input_ids
    start = len(prompt_ids(tokenizer, prompt))
    assert whole[start : start + len(ids)] == ids and ids[-1] == tokenizer.eos_token_id


def test_text_that_spells_special_tokens_stays_text(family):
    """In questions and answers, in training as at inference: no eos in mid-answer, no turn out of a user's text."""
    _, _, tokenizer = family
    names = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special} | {tokenizer.eos_token}
    special = sorted(name for name in names if not name.isspace())
    spelled = " 그리고 ".join(special) + "".join(special) + "<" + tokenizer.eos_token
    messages = [*turns(f"{spelled}입니까?", f"답은 {spelled}입니다."), *turns("또?", f"{tokenizer.eos_token}네")]
    plain = [*turns("가", "나"), *turns("다", "라")]
    ids = set(tokenizer.convert_tokens_to_ids(special))
    for (part, encoded), (_, bare) in zip(training_rows(tokenizer, messages), training_rows(tokenizer, plain), strict=True):
        assert [i for i in encoded.input_ids if i in ids] == [i for i in bare.input_ids if i in ids]
        answers = [label for label in encoded.labels if label == tokenizer.eos_token_id]
        assert len(answers) == sum(label == tokenizer.eos_token_id for label in bare.labels)
        assert f"답은 {spelled}입니다." in tokenizer.decode(encoded.input_ids)
        asked = prompt_ids(tokenizer, part[:-1])
        assert encoded.input_ids[: len(asked)] == asked
    assert (
        conversation_ids(tokenizer, plain[:2]).input_ids
        == tokenizer(render(tokenizer, plain[:2]), add_special_tokens=False)["input_ids"]
    )


def test_thinking_that_qwen3s_template_leaves_out_is_no_fault_of_the_row(families):
    tokenizer = load_tokenizer(str(families("qwen3").folder), "qwen3")
    answers = [{"id": "r", "messages": turns("한국의 수도는?", "<think>수도를 묻는다.</think>\n\n서울입니다.")}]
    data, _ = tokenize_conversations(tokenizer, answers, None)
    batch = {"input_ids": torch.tensor(data["input_ids"][:]), "labels": torch.tensor(data["labels"][:])}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    assert audit_batches([batch], tokenizer, conversations_of(data, answers), tokenizer.eos_token_id)["rows"] == 1
    assert tokenizer.decode([label for label in data["labels"][0] if label != IGNORE]) == "서울입니다.<|im_end|>"
