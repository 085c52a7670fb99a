"""Where we step into TRL and transformers: our way gives the same numbers, and each seam has a canary.

A canary (`test_canary_…`) fails when upstream has changed. Then the seam it names may go.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import trl.trainer.utils as trl_utils
from conftest import MULTI_TURN, rows
from test_audit import pair_rows
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from align_ko.training.prepare import ShuffledLengthGroupedSampler, tokenize_conversations, tokenize_pairs
from align_ko.training.seams import AlignDPOTrainer, AlignSFTTrainer, AnswersOnly, score_supervised_positions_only

LOCAL = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "dataloader_pin_memory": False}


@pytest.fixture
def trls_own(monkeypatch):
    """TRL as it is installed, whatever tests before this one did."""
    monkeypatch.setattr(trl_utils, "_use_triton", getattr(trl_utils._use_triton, "original", trl_utils._use_triton))


def test_canary_trl_scores_all_of_a_side():
    collator = DataCollatorForPreference(pad_token_id=0)
    sides = {"chosen_ids": [2, 3, 4], "rejected_ids": [5], "chosen_mask": [1, 0, 1], "rejected_mask": [1]}
    examples = [{"prompt_ids": [1], **sides}]
    assert collator(examples)["completion_mask"].tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]
    assert AnswersOnly(collator)(examples)["completion_mask"].tolist() == [[0, 1, 0, 1], [0, 1, 0, 0]]


def sft_trainer(kind, tiny, tmp_path):
    tokenizer = tiny.tokenizer()
    dataset, _ = tokenize_conversations(tokenizer, rows(), None)
    config = SFTConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=9, max_length=None, gradient_checkpointing=False, **LOCAL
    )
    return kind(model=tiny.model(), args=config, train_dataset=dataset, processing_class=tokenizer)


def step(trainer, monkeypatch):
    """Loss, gradients and the number of positions the fused head projected, for the one batch of all rows."""
    projected = []
    real = trl_utils._ChunkedLogProbFunction.apply

    class Counted:
        @staticmethod
        def apply(hidden, *rest):
            projected.append(hidden.shape[0])
            return real(hidden, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(trl_utils, "_ChunkedLogProbFunction", Counted)
        [batch] = list(trainer.get_train_dataloader())
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, projected, batch


def test_loss_and_gradients_are_trls_own(tiny, tmp_path, trls_own, monkeypatch):
    loss, gradients, projected, batch = step(sft_trainer(SFTTrainer, tiny, tmp_path), monkeypatch)
    assert (batch["attention_mask"] == 0).any()  # padding is there
    # canary: TRL 1.16 scores every position on the CPU
    assert projected == [batch["input_ids"].numel()] or projected == [batch["input_ids"][:, 1:].numel()]

    ours_loss, ours, ours_projected, same = step(sft_trainer(AlignSFTTrainer, tiny, tmp_path), monkeypatch)
    supervised = int((same["labels"] != -100).sum())
    assert torch.equal(batch["input_ids"].sort(0)[0], same["input_ids"].sort(0)[0])
    assert ours_projected == [supervised] and supervised < projected[0] / 3
    assert abs(loss - ours_loss) < 1e-5
    assert gradients.keys() == ours.keys() and len(ours) > 10
    for name, gradient in gradients.items():
        assert (gradient - ours[name]).abs().max() < 1e-5, name
    assert max(gradient.abs().max() for gradient in ours.values()) > 1e-2


def test_the_loss_is_the_mean_over_the_supervised_tokens(tiny, tmp_path, monkeypatch):
    trainer = sft_trainer(AlignSFTTrainer, tiny, tmp_path)
    loss, _, _, batch = step(trainer, monkeypatch)
    with torch.no_grad():
        logits = tiny.model()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    plain = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    assert abs(loss - plain.item()) < 1e-5


def test_twice_is_once(trls_own):
    score_supervised_positions_only()
    once = trl_utils._use_triton
    score_supervised_positions_only()
    assert trl_utils._use_triton is once and once(torch.device("cpu"))
    assert once(torch.device("meta")) == bool(once.original(torch.device("meta")))


def test_canary_trl_scores_every_position_on_the_cpu(trls_own):
    assert not trl_utils._use_triton(torch.device("cpu"))


# Length grouping --------------------------------------------------------------------------------------------------------


def lengths(count=403):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(10, 400, (count,), generator=generator).tolist()


def padding_share(order, sizes, batch):
    batches = [[sizes[i] for i in order[start : start + batch]] for start in range(0, len(order), batch)]
    return sum(max(b) * len(b) - sum(b) for b in batches) / sum(max(b) * len(b) for b in batches)


def batch_means(order, sizes, batch):
    return [sum(sizes[i] for i in order[start : start + batch]) / batch for start in range(0, len(order) - batch + 1, batch)]


def test_every_row_once():
    for count, batch in [(403, 8), (8, 8), (7, 8), (801, 16), (1, 4)]:
        sampler = ShuffledLengthGroupedSampler(lengths(count), batch, seed=42)
        assert sorted(sampler) == list(range(count)) and len(sampler) == count


def test_the_order_belongs_to_seed_and_epoch():
    def order(seed, epoch):
        sampler = ShuffledLengthGroupedSampler(lengths(), 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(42, 0) == order(42, 0)
    assert order(42, 0) != order(42, 1) != order(43, 1)
    assert order(42, 1) == order(42, 1)


def test_little_padding_in_no_order_of_length():
    sizes = lengths(800)
    order = list(ShuffledLengthGroupedSampler(sizes, 8, seed=42))
    shuffled = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(2)).tolist()
    assert padding_share(order, sizes, 8) < 0.05 < 0.35 < padding_share(shuffled, sizes, 8)
    means = batch_means(order, sizes, 8)
    ranks = torch.tensor(means).argsort().argsort().double()
    steps = torch.arange(len(means)).double()
    correlation = torch.corrcoef(torch.stack([steps, ranks]))[0, 1]
    assert abs(correlation) < 0.25, means  # 100 batches in random order: .1 is one standard deviation
    assert 0.3 < sum(b > a for a, b in itertools.pairwise(means)) / (len(means) - 1) < 0.7


def test_canary_transformers_gives_the_longest_first():
    sizes = lengths(400)
    order = list(LengthGroupedSampler(8, lengths=sizes, generator=torch.Generator().manual_seed(42)))
    first_group = batch_means(order, sizes, 8)[: 400 // (8 * 4)]  # transformers makes at least four groups
    assert all(a >= b for a, b in itertools.pairwise(first_group)), first_group


def test_the_trainer_uses_our_sampler(tiny, tmp_path):
    trainer = sft_trainer(AlignSFTTrainer, tiny, tmp_path)
    trainer.args.train_sampling_strategy = "group_by_length"
    trainer.args.gradient_accumulation_steps = 2
    sampler = trainer._get_train_sampler()
    assert isinstance(sampler, ShuffledLengthGroupedSampler)
    assert sampler.batch_size == 18 and sampler.lengths == trainer.train_dataset["length"]
    trainer.args.train_sampling_strategy = "random"
    assert not isinstance(trainer._get_train_sampler(), ShuffledLengthGroupedSampler)


# DPO -------------------------------------------------------------------------------------------------------------------


def test_canary_trl_closes_both_sides_with_eos(gemma, tmp_path):
    """TRL tokenises pairs itself and ends both with eos; that is why AlignDPOTrainer takes ids (test_audit.py)."""
    from datasets import Dataset

    tokenizer = gemma.tokenizer()
    pair = {"prompt": MULTI_TURN[:2], "chosen": [{"role": "assistant", "content": "서울입니다."}]}
    pair["rejected"] = [{"role": "assistant", "content": "네 네 네 네"}]  # never ended
    config = DPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=1, **LOCAL)
    trainer = DPOTrainer(
        model=gemma.model(), ref_model=gemma.model(), args=config, processing_class=tokenizer,
        train_dataset=Dataset.from_list([pair]),
    )  # fmt: skip
    [batch] = list(trainer.get_train_dataloader())
    last = [row[mask.bool()][-1].item() for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    assert last == [tokenizer.eos_token_id] * 2


def test_canary_pairs_grouped_by_length_cannot_be_evaluated(tiny, tmp_path):
    """transformers looks for `input_ids` in each row of the evaluation, which pairs do not have; ours evaluates."""
    tokenizer = tiny.tokenizer()
    twice = [row | {"id": f"{turn}{row['id']}"} for turn in "ab" for row in pair_rows()]
    dataset, _ = tokenize_pairs(tokenizer, twice, None)
    grouped = {"train_sampling_strategy": "group_by_length", "eval_strategy": "steps", "eval_steps": 1, "max_steps": 1}
    config = DPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        max_length=None,
        **grouped,
        **LOCAL,
    )
    trainer = AlignDPOTrainer(
        model=tiny.model(), ref_model=tiny.model(), args=config, train_dataset=dataset, eval_dataset=dataset,
        processing_class=tokenizer,
    )  # fmt: skip
    with pytest.raises(ValueError, match="Can only automatically infer lengths"):
        super(AlignDPOTrainer, trainer)._get_eval_sampler(trainer._remove_unused_columns(dataset))
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry] == [1]
    shapes = [batch["input_ids"].shape for batch in trainer.get_eval_dataloader()]
    assert len(set(shapes)) == 2  # each of two different lengths is in a batch of its own


def test_an_all_masked_batch_is_a_zero_that_can_be_differentiated(tiny, tmp_path):
    trainer = sft_trainer(AlignSFTTrainer, tiny, tmp_path)
    [batch] = list(trainer.get_train_dataloader())
    batch["labels"].fill_(-100)
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    assert loss.item() == 0 and math.isfinite(loss.item())


def test_canary_adapter_inputs_are_not_copied_to_float32(tiny, tmp_path, monkeypatch):
    """PEFT casts each adapter's input under autocast (the canary); ours does not, and learns the same weights to the bit."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import BaseTunerLayer

    tokenizer = tiny.tokenizer()
    dataset, _ = tokenize_conversations(tokenizer, rows(), None)
    copies = []
    real = BaseTunerLayer._cast_input_dtype

    def counted(self, x, dtype):
        cast = real(self, x, dtype)
        copies.append(cast.dtype != x.dtype)
        return cast

    monkeypatch.setattr(BaseTunerLayer, "_cast_input_dtype", counted)
    learnt, shares = [], []
    for kind in (SFTTrainer, AlignSFTTrainer):
        local = {**LOCAL, "bf16": True, "max_steps": 2, "learning_rate": 1e-2, "gradient_checkpointing": False}
        config = SFTConfig(output_dir=str(tmp_path), per_device_train_batch_size=9, max_length=None, **local)
        torch.manual_seed(0)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = tiny.model().to(torch.bfloat16)
        trainer = kind(model=model, args=config, train_dataset=dataset, processing_class=tokenizer, peft_config=lora)
        if kind is SFTTrainer:
            score_supervised_positions_only()  # the same loss path in both
        copies.clear()
        trainer.train()
        shares.append(sum(copies) / len(copies))
        learnt.append({name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad})
    assert shares[0] > 0.5 and shares[1] == 0, shares
    assert learnt[0].keys() == learnt[1].keys() and len(learnt[0]) > 10
    assert all(torch.equal(learnt[0][name], learnt[1][name]) for name in learnt[0])
    assert all(module.cast_input_dtype_enabled for module in trainer.model.modules() if isinstance(module, BaseTunerLayer))
