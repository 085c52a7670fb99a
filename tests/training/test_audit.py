"""The audit passes what the trainers really feed, and stops every fault that once trained the wrong thing in silence."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
import torch
from conftest import MULTI_TURN, rows, turns
from transformers import DataCollatorForLanguageModeling
from trl import DPOConfig, SFTConfig

from align_ko.chat_format import IGNORE, conversation_ids
from align_ko.training.audit import AuditError, audit_batches, audit_pairs
from align_ko.training.prepare import conversations_of, leave_out, tokenize_conversations, tokenize_pairs
from align_ko.training.seams import AlignDPOTrainer, AlignSFTTrainer

LOCAL = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "dataloader_pin_memory": False}


def sft_batches(tiny, tmp_path, **options):
    tokenizer = tiny.tokenizer()
    dataset, too_long = tokenize_conversations(tokenizer, rows(), None)
    assert too_long == []
    values = {"output_dir": str(tmp_path), "per_device_train_batch_size": 4, "max_length": None, **LOCAL, **options}
    config = SFTConfig(**values)
    trainer = AlignSFTTrainer(model=tiny.model(), args=config, train_dataset=dataset, processing_class=tokenizer)
    known = {hash(tuple(ids)): row["messages"] for ids, row in zip(dataset["input_ids"], rows(), strict=True)}
    return list(trainer.get_train_dataloader()), tokenizer, known


def test_an_answer_of_weight_0_has_to_be_masked(tiny):
    tokenizer = tiny.tokenizer()
    masked = [{**message, "weight": 0} if number == 2 else message for number, message in enumerate(MULTI_TURN)]
    part, whole = conversation_ids(tokenizer, masked), conversation_ids(tokenizer, MULTI_TURN)

    def batch(encoded):
        tensors = {"input_ids": torch.tensor([encoded.input_ids]), "labels": torch.tensor([encoded.labels])}
        return [{**tensors, "attention_mask": torch.ones_like(tensors["labels"])}]

    known = {hash(tuple(part.input_ids)): masked}
    assert audit_batches(batch(part), tokenizer, known, tokenizer.eos_token_id)["rows"] == 1
    with pytest.raises(AuditError, match="turn 4: the prompt is trained on"):
        audit_batches(batch(whole), tokenizer, known, tokenizer.eos_token_id)


def test_one_conversation_in_two_rows_with_other_answers_to_train_on_passes(tiny):
    tokenizer = tiny.tokenizer()
    rows = [{"id": "whole", "messages": MULTI_TURN}]
    rows += [{"id": "part", "messages": [{**m, "weight": 0} if n == 2 else m for n, m in enumerate(MULTI_TURN)]}]
    dataset, _ = tokenize_conversations(tokenizer, rows, None)
    columns = {name: torch.tensor(dataset[name][:]) for name in ("input_ids", "labels")}
    batch = {**columns, "attention_mask": torch.ones_like(columns["labels"])}
    for order in (rows, rows[::-1]):
        dataset, _ = tokenize_conversations(tokenizer, order, None)
        assert audit_batches([batch], tokenizer, conversations_of(dataset, order), tokenizer.eos_token_id)["rows"] == 2


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_the_trainers_own_batches_pass(tiny, tmp_path, strategy):
    batches, tokenizer, known = sft_batches(tiny, tmp_path, train_sampling_strategy=strategy)
    seen = audit_batches(batches, tokenizer, known, tokenizer.eos_token_id)
    encoded = [conversation_ids(tokenizer, row["messages"]) for row in rows()]
    assert seen["rows"] == 9
    assert seen["tokens"] == sum(len(row.input_ids) for row in encoded)
    assert seen["supervised"] == sum(label != IGNORE for row in encoded for label in row.labels)
    assert seen["padding"] == sum(batch["input_ids"].numel() for batch in batches) - seen["tokens"] > 0


@pytest.mark.parametrize(
    "options",
    [
        {"packing": True, "max_length": 160, "per_device_train_batch_size": 1},
        {"packing": True, "max_length": 160, "per_device_train_batch_size": 2, "pad_to_multiple_of": 64},
        {"padding_free": True},
        {"padding_free": True, "pad_to_multiple_of": 64},
        {"packing": True, "max_length": 160, "train_sampling_strategy": "group_by_length"},
    ],
)
def test_rows_that_lie_end_to_end_are_told_apart(tiny, tmp_path, options):
    """What FlashAttention trains on has no mask: the audit reads where the positions begin again."""
    batches, tokenizer, known = sft_batches(tiny, tmp_path, **options)
    assert all("attention_mask" not in batch and len(batch["input_ids"]) == 1 for batch in batches)
    seen = audit_batches(batches, tokenizer, known, tokenizer.eos_token_id)
    encoded = [conversation_ids(tokenizer, row["messages"]) for row in rows()]
    assert seen["rows"] == 9 and seen["tokens"] == sum(len(row.input_ids) for row in encoded)
    assert seen["supervised"] == sum(label != IGNORE for row in encoded for label in row.labels)
    assert seen["padding"] == sum(batch["input_ids"].numel() for batch in batches) - seen["tokens"]
    assert (seen["padding"] > 0) == ("pad_to_multiple_of" in options)


def test_faults_are_seen_in_packed_rows_too(tiny, tmp_path):
    batches, tokenizer, known = sft_batches(tiny, tmp_path, padding_free=True, pad_to_multiple_of=64)

    def spoilt(change) -> list[dict]:
        batch = {key: value.clone() if hasattr(value, "clone") else value for key, value in batches[0].items()}
        change(batch)
        return [batch]

    def merge_rows(batch) -> None:  # as `wrapped` packing or a lost boundary: two rows read as one
        second = (batch["position_ids"][0] == 0).nonzero().flatten()[1]
        batch["position_ids"][0, second] = 1

    def train_padding(batch) -> None:
        batch["labels"][0, -1] = 5

    def forget_eos(batch) -> None:
        batch["labels"][batch["labels"] == tokenizer.eos_token_id] = IGNORE

    for change, told in {
        merge_rows: "not the whole",
        train_padding: "padding is trained",
        forget_eos: "is not trained",
    }.items():
        with pytest.raises(AuditError, match=told):
            audit_batches(spoilt(change), tokenizer, known, tokenizer.eos_token_id)


def test_looking_leaves_the_randomness_alone(tiny, tmp_path):
    tokenizer = tiny.tokenizer()

    def batches():
        random.random(), np.random.rand(), torch.rand(1)
        yield batch_of(tokenizer)[0]

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    audit_batches(batches(), tokenizer, batch_of(tokenizer)[1], tokenizer.eos_token_id)
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


# Injected faults: one row of two turns and one short row, right-padded --------------------------------------------------


CONVERSATIONS = [MULTI_TURN, turns("한국의 수도는?", "서울입니다.")]


def batch_of(tokenizer, conversations=CONVERSATIONS):
    encoded = [conversation_ids(tokenizer, messages) for messages in conversations]
    return collate(tokenizer, [(e.input_ids, e.labels) for e in encoded]), {
        hash(tuple(e.input_ids)): messages for e, messages in zip(encoded, conversations, strict=True)
    }


def collate(tokenizer, pairs):
    width = max(len(ids) for ids, _ in pairs)
    return {
        "input_ids": torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in pairs]),
        "labels": torch.tensor([labels + [IGNORE] * (width - len(ids)) for ids, labels in pairs]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in pairs]),
    }


def labels_rebuilt_from_input_ids(batch, tokenizer, known):
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return collator([{"input_ids": ids} for ids in real_ids(batch)]), known


def real_ids(batch):
    return [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]


def eos_masked_as_padding(batch, tokenizer, known):
    batch["labels"][batch["labels"] == tokenizer.eos_token_id] = IGNORE
    return batch, known


def bos_doubled(batch, tokenizer, known):
    double = [[tokenizer.bos_token_id, *ids] for ids in real_ids(batch)]
    doubled = {hash(tuple(ids)): known[hash(tuple(ids[1:]))] for ids in double}
    return collate(tokenizer, [(ids, [IGNORE] * len(ids)) for ids in double]), doubled


def tail_cut(batch, tokenizer, known):
    return {key: value[:, :-3] for key, value in batch.items()}, known


def one_prompt_token_trained(batch, tokenizer, known):
    first = (batch["labels"][1] != IGNORE).nonzero()[0, 0]
    batch["labels"][1, first - 1] = batch["input_ids"][1, first - 1]
    return batch, known


def one_answer_token_masked(batch, tokenizer, known):
    first = (batch["labels"][1] != IGNORE).nonzero()[0, 0]
    batch["labels"][1, first] = IGNORE
    return batch, known


def middle_of_the_answer_masked(batch, tokenizer, known):
    place = (batch["labels"][1] != IGNORE).nonzero()[1, 0]
    batch["labels"][1, place] = IGNORE
    return batch, known


def last_turn_only(batch, tokenizer, known):
    first_eos = (batch["labels"][0] == tokenizer.eos_token_id).nonzero()[0, 0]
    batch["labels"][0, : first_eos + 1] = IGNORE
    return batch, known


def first_turn_only(batch, tokenizer, known):
    first_eos = (batch["labels"][0] == tokenizer.eos_token_id).nonzero()[0, 0]
    batch["labels"][0, first_eos + 1 :] = IGNORE
    return batch, known


def labels_shifted(batch, tokenizer, known):
    batch["labels"][1] = batch["labels"][1].roll(-1)
    return batch, known


def padding_trained(batch, tokenizer, known):
    batch["labels"][1, -1] = tokenizer.pad_token_id
    return batch, known


def another_answer(batch, tokenizer, known):
    changed = {ids: [*messages[:-1], {"role": "assistant", "content": "부산입니다."}] for ids, messages in known.items()}
    return batch, changed


def another_prompt(batch, tokenizer, known):
    changed = {ids: [{"role": "user", "content": "뭐?"}, *messages[1:]] for ids, messages in known.items()}
    return batch, changed


FAULTS = {
    labels_rebuilt_from_input_ids: "turn 2: the prompt is trained on, in the row that begins '짧게 답하세요.'",
    eos_masked_as_padding: "turn 2: the answer's closing .* is not trained",
    bos_doubled: "2 bos tokens instead of one",
    tail_cut: "not the whole of any conversation, so it was cut or changed: …",
    one_prompt_token_trained: "turn 1: the prompt is trained on, in the row that begins '한국의 수도는\\?'",
    one_answer_token_masked: "turn 1: the answer's closing .* is not trained",
    middle_of_the_answer_masked: "turn 1: the answer's closing .* is not trained",
    last_turn_only: "turn 2: the answer's closing .* is not trained",
    first_turn_only: "turn 4: the answer's closing .* is not trained",
    labels_shifted: "turn 1: the prompt is trained on",
    padding_trained: "padding is trained on",
    another_answer: "turn 4: trained on .*, not on the whole answer",
    another_prompt: "turn 2: training shows another prompt than inference will, in the row that begins '뭐\\?'",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_stops_the_run_and_is_named(tiny, fault):
    tokenizer = tiny.tokenizer()
    batch, known = batch_of(tokenizer)
    assert audit_batches([batch], tokenizer, known, tokenizer.eos_token_id)["rows"] == 2  # sound before
    batch, known = fault(batch, tokenizer, known)
    with pytest.raises(AuditError, match=FAULTS[fault]):
        audit_batches([batch], tokenizer, known, tokenizer.eos_token_id)


def test_a_faulty_row_is_named_and_may_be_left_out(tiny, capsys):
    tokenizer = tiny.tokenizer()
    batch, known = another_answer(*batch_of(tokenizer)[:1], tokenizer, batch_of(tokenizer)[1])
    of_file = [{"id": "first", "messages": turns("가", "나")}, {"id": "bad", "messages": next(iter(known.values()))}]
    with pytest.raises(AuditError, match=r"not on the whole answer.* \(id bad\); .*--data.leave_out bad"):
        audit_batches([batch], tokenizer, known, tokenizer.eos_token_id, rows=of_file)
    assert leave_out(of_file, ("bad",)) == of_file[:1]
    assert "1 of 2 rows left out by data.leave_out" in capsys.readouterr().out


def test_text_that_the_tokenizer_keeps_in_another_form_is_no_fault(tiny):
    """Decomposed Hangul under a tokenizer that composes it; `▁`, a space to SentencePiece."""
    from tokenizers import normalizers

    tokenizer = tiny.tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), *([backend.normalizer] if backend.normalizer else [])])
    odd = unicodedata.normalize("NFD", "서울▁한강입니다. 끝</s>네.")
    batch, known = batch_of(tokenizer, [turns("어디?", odd), turns("어디?", "▁▁서울입니다.")])
    assert audit_batches([batch], tokenizer, known, tokenizer.eos_token_id)["rows"] == 2


def test_another_eos_at_generation(tiny):
    tokenizer = tiny.tokenizer()
    batch, known = batch_of(tokenizer)
    eos = tokenizer.eos_token_id
    assert audit_batches([batch], tokenizer, known, [99, eos])["rows"] == 2
    with pytest.raises(AuditError, match=rf"generation would stop at 99, but training teaches eos {eos}"):
        audit_batches([batch], tokenizer, known, 99)


def test_pad_equal_to_eos(tiny):
    tokenizer = tiny.tokenizer()
    batch, known = batch_of(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(AuditError, match="pad and eos are the same token"):
        audit_batches([batch], tokenizer, known, tokenizer.eos_token_id)


def test_no_rows_at_all(tiny):
    tokenizer = tiny.tokenizer()
    with pytest.raises(AuditError, match="gives no rows"):
        audit_batches([], tokenizer, {}, tokenizer.eos_token_id)


# Rows ------------------------------------------------------------------------------------------------------------------


def test_a_long_row_is_left_out_whole_and_named(tiny):
    tokenizer = tiny.tokenizer()
    everything, _ = tokenize_conversations(tokenizer, rows(), None)
    longest = max(everything["length"])
    kept, too_long = tokenize_conversations(tokenizer, rows(), longest - 1)
    assert too_long == [("r8", longest)] and kept["id"] == [f"r{n}" for n in range(8)]
    assert all(ids[-1] == tokenizer.eos_token_id for ids in kept["input_ids"])


# Pairs -----------------------------------------------------------------------------------------------------------------


def pair_rows():
    closed = {"prompt": MULTI_TURN[:2], "chosen": "서울입니다.", "rejected": "부산입니다.", "rejected_finished": True}
    opened = {"prompt": MULTI_TURN[1:4], "chosen": "4입니다.", "rejected": "2는 2는 2는 2는", "rejected_finished": False}
    return [
        {**row, "id": f"p{n}", **{side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}}
        for n, row in enumerate([closed, opened])
    ]


def dpo_batches(tiny, tmp_path, rows=None, **options):
    tokenizer, rows = tiny.tokenizer(), rows or pair_rows()
    dataset, too_long = tokenize_pairs(tokenizer, rows, None)
    assert too_long == []
    config = DPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=2, max_length=None, **LOCAL, **options)
    trainer = AlignDPOTrainer(
        model=tiny.model(), ref_model=tiny.model(), args=config, train_dataset=dataset, processing_class=tokenizer
    )
    dpo_batches.trainer = trainer
    return list(trainer.get_train_dataloader()), tokenizer, {row["id"]: row for row in rows}, dataset


@pytest.mark.parametrize("precompute", [False, True])
def test_of_sides_of_several_turns_the_answers_are_scored_and_the_users_turns_are_not(tiny, tmp_path, precompute):
    more = [MULTI_TURN[3], {"role": "assistant", "content": "4입니다."}]
    row = {"id": "p0", "prompt": MULTI_TURN[:2], "rejected_finished": False}
    row |= {
        side: [{"role": "assistant", "content": text}, *more] for side, text in (("chosen", "서울."), ("rejected", "부산."))
    }
    batches, tokenizer, pairs, dataset = dpo_batches(
        tiny, tmp_path, [row, pair_rows()[0] | {"id": "p1"}], precompute_ref_log_probs=precompute
    )
    assert audit_pairs(batches, tokenizer, pairs, dataset) == {"pairs": 2, "open": 1}
    [batch] = batches
    scored = {
        tokenizer.decode(ids[mask.bool()]) for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    }
    eos = tokenizer.eos_token
    assert scored == {f"서울.{eos}4입니다.{eos}", f"부산.{eos}4입니다.", f"서울입니다.{eos}", f"부산입니다.{eos}"}
    if precompute:  # the reference has to be of the same tokens
        trainer = dpo_batches.trainer
        logps = torch.stack(trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, batch))
        assert torch.allclose(logps, torch.stack([batch["ref_chosen_logps"], batch["ref_rejected_logps"]]), atol=1e-3)
    batch["completion_mask"][:, len(dataset[0]["prompt_ids"]) :] = batch["attention_mask"][:, len(dataset[0]["prompt_ids"]) :]
    with pytest.raises(AuditError, match="the scored part is not exactly the answer"):
        audit_pairs(batches, tokenizer, pairs, dataset)


def test_the_dpo_trainers_own_batches_pass_and_the_open_side_has_no_eos(tiny, tmp_path):
    batches, tokenizer, pairs, dataset = dpo_batches(tiny, tmp_path)
    assert audit_pairs(batches, tokenizer, pairs, dataset) == {"pairs": 2, "open": 1}
    [batch] = batches
    ends = {}
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        real = ids[mask.bool()].tolist()
        ends[tokenizer.decode(real).rsplit("\n", 1)[-1].removesuffix(tokenizer.eos_token)] = real[-1]
    closed = {text for text, last in ends.items() if last == tokenizer.eos_token_id}
    assert closed == {"서울입니다.", "부산입니다.", "4입니다."}
    assert set(ends) - closed == {"2는 2는 2는 2는"}


def test_an_open_end_that_was_closed_is_found(tiny, tmp_path):
    batches, tokenizer, pairs, dataset = dpo_batches(tiny, tmp_path)
    pairs["p0"]["rejected_finished"] = False  # its row was closed with eos all the same
    with pytest.raises(AuditError, match="the rejected side is closed by eos though it never ended, in"):
        audit_pairs(batches, tokenizer, pairs, dataset)
    pairs["p0"]["rejected_finished"] = pairs["p1"]["rejected_finished"] = True
    with pytest.raises(AuditError, match="the rejected side lacks its eos"):
        audit_pairs(batches, tokenizer, pairs, dataset)


def test_the_sides_in_the_wrong_order_are_found(tiny, tmp_path):
    batches, tokenizer, pairs, dataset = dpo_batches(tiny, tmp_path)
    swapped = [{key: value.roll(2, 0) for key, value in batch.items()} for batch in batches]
    with pytest.raises(AuditError, match="a chosen row is not the whole of any pair"):
        audit_pairs(swapped, tokenizer, pairs, dataset)


def test_a_cut_side_and_a_scored_prompt_are_found(tiny, tmp_path):
    batches, tokenizer, pairs, dataset = dpo_batches(tiny, tmp_path)
    cut = [{key: value[:, :-4] for key, value in batch.items()} for batch in batches]
    with pytest.raises(AuditError, match="is not the whole of any pair"):
        audit_pairs(cut, tokenizer, pairs, dataset)
    batches[0]["completion_mask"][0] = batches[0]["completion_mask"][0].roll(-1)
    with pytest.raises(AuditError, match="the scored part is not exactly the answer"):
        audit_pairs(batches, tokenizer, pairs, dataset)
