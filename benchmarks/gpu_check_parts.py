"""The parts of gpu_check.py. Each returns what it measured: `seconds` a step, `gib` at the peak (on a GPU), both as planned
where the plan knows this GPU, and `told`, further lines for the table."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, TrainerCallback

from align_ko.planning.devices import GPUS, Gpu, Method, share_of_peak, train_work
from align_ko.planning.lengths import Batch
from align_ko.planning.memory import GIB, Setting, plan_memory
from align_ko.planning.model_shape import count_parameters, load_config, trace_activations
from align_ko.recipe import ModelArgs
from bench_trainer import TRAINED_SHARE, make_trainer, plain_tokenizer, random_pairs, random_rows, small_llama

STEPS = 4
ROOT = Path(__file__).parents[1]


class Shape:
    """Sizes of the check: SOLAR's with the user's batch, or tiny ones."""

    def __init__(self, tiny: bool) -> None:
        self.rows, self.pairs, self.tokens, self.rank = (2, 1, 48, 4) if tiny else (8, 2, 2_048, 64)
        self.batches: tuple[int, ...] = (2, 4) if tiny else (32, 64, 128)
        self.prompt, self.answer = (8, 8) if tiny else (256, 256)
        self.config: PretrainedConfig = (
            small_llama(64, 2, 512) if tiny else load_config("upstage/SOLAR-10.7B-v1.0", str(ROOT / "recipes/solar/sft.yaml"))
        )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def args(self, four_bit: bool) -> ModelArgs:
        return ModelArgs("random", "bfloat16", load_in_4bit=four_bit, lora_r=self.rank, lora_alpha=2 * self.rank)


def random_weights(config: PretrainedConfig, device: str, four_bit: bool = False, attention: str = "sdpa") -> Any:
    """`config`'s model in bfloat16, its layers' linear weights in NF4 as TRL would get them; one weight at a time, so that a
    24 GB card holds it."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)
    if four_bit:
        from transformers import BitsAndBytesConfig
        from transformers.integrations import replace_with_bnb_linear

        four = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
        model = replace_with_bnb_linear(model, modules_to_not_convert=["lm_head"], quantization_config=four)
        model.is_loaded_in_4bit = True
    for module in list(model.modules()):
        for name, weight in module._parameters.items():
            if weight is None or not weight.is_meta:
                continue
            drawn = torch.ones(weight.shape) if weight.dim() == 1 else torch.empty(weight.shape, device=device).normal_(0, 0.02)
            drawn = drawn.to(device, torch.bfloat16)
            if type(weight).__name__ == "Params4bit":
                made = type(weight)(drawn, requires_grad=False, quant_type="nf4", compress_statistics=True, module=module).to(
                    device
                )
            else:
                made = torch.nn.Parameter(drawn, requires_grad=not four_bit)
            module._parameters[name] = made
    model.tie_weights()
    backbone = model.base_model
    backbone.rotary_emb = type(backbone.rotary_emb)(config).to(device)  # its buffers are no weights
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # models/load.py says why
    return model


class StepTimes(TrainerCallback):
    """Seconds of every optimiser step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args: object, **kwargs: object) -> None:
        _wait()
        self.began = time.perf_counter()

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        _wait()
        self.seconds.append(time.perf_counter() - self.began)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _this_gpu() -> Gpu | None:
    """The plan's row for this machine's GPU, by name and memory."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name().upper().replace(" ", "").replace("-", "")
    size = torch.cuda.get_device_properties(0).total_memory / GIB
    alike = [gpu for gpu in GPUS.values() if gpu.name.split("-")[0] in name]
    return min(alike, key=lambda gpu: abs(gpu.gib - size), default=None)


def _measured(
    trainer: Any, times: StepTimes, shape: Shape, args: ModelArgs, sequences: int, reference: str, flash: bool
) -> dict[str, Any]:
    """Train, and set the plan beside it."""
    if shape.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    result: dict[str, Any] = {"seconds": statistics.median(times.seconds[1:])}
    counts = count_parameters(shape.config, args)
    traced = trace_activations(shape.config, args, sequences, shape.tokens, dtype="bfloat16", mixed=True, checkpointing=True)
    setting = Setting(sequences, shape.tokens, TRAINED_SHARE, four_bit=True, reference=reference)  # type: ignore[arg-type]
    planned = sum(plan_memory(counts, shape.config, setting, traced)) / GIB
    if shape.device == "cuda":
        # the context lies outside torch's own count, so it is added from the driver's
        free, whole = torch.cuda.mem_get_info()
        outside = whole - free - torch.cuda.memory_reserved()
        result |= {"gib": (torch.cuda.max_memory_reserved() + outside) / GIB, "planned_gib": planned}
    if gpu := _this_gpu():
        method = Method(True, flash, int(reference != "none"))
        batch = Batch(sequences, shape.tokens, sequences * shape.tokens, round(sequences * shape.tokens * TRAINED_SHARE))
        result["planned_seconds"] = train_work([batch], shape.config, counts, method) / (gpu.flops * share_of_peak(gpu, True))
    result["told"] = [f"{sequences * shape.tokens / result['seconds']:,.0f} positions a second"]
    return result


def train_sft(tiny: bool, attention: str = "sdpa", packing: bool = False, use_liger_kernel: bool = False) -> dict[str, Any]:
    """QLoRA with checkpointing, the user's batch; `packing` fills it with rows of a quarter of the length."""
    shape, times = Shape(tiny), StepTimes()
    flash, args = "flash" in attention and shape.device == "cuda", shape.args(four_bit=True)
    length, parts = (shape.tokens // 4, 4) if packing else (shape.tokens, 1)
    rows = random_rows([length] * (shape.rows * STEPS * parts), shape.config.vocab_size)
    training = {"per_device_train_batch_size": shape.rows, "max_steps": STEPS, "max_length": shape.tokens, "bf16": True,
                "gradient_checkpointing": True, "packing": packing, "use_liger_kernel": use_liger_kernel}  # fmt: skip
    model = random_weights(shape.config, shape.device, True, attention if flash else "sdpa")
    trainer = make_trainer(shape.config, args, rows, training, [times], model=model)
    return _measured(trainer, times, shape, args, shape.rows, "none", flash)


def train_dpo(tiny: bool) -> dict[str, Any]:
    """QLoRA DPO whose reference is the adapter's frozen copy, as from an SFT adapter."""
    from peft import get_peft_model

    from align_ko.models.load import lora_config

    shape, times = Shape(tiny), StepTimes()
    args = shape.args(four_bit=True)
    policy = get_peft_model(random_weights(shape.config, shape.device, True), lora_config(args))
    pairs = random_pairs(shape.pairs * STEPS, shape.tokens, shape.config.vocab_size)
    training = {"per_device_train_batch_size": shape.pairs, "max_steps": STEPS, "bf16": True, "gradient_checkpointing": True}
    trainer = _dpo(policy, pairs, times, training)
    return _measured(trainer, times, shape, args, 2 * shape.pairs, "adapter", flash=False)


def _dpo(policy: Any, pairs: Any, times: StepTimes, training: dict[str, Any], dtype: str = "bfloat16") -> Any:
    from trl import DPOConfig

    from align_ko.training.prepare import training_config
    from align_ko.training.seams import AlignDPOTrainer

    values = {"output_dir": tempfile.mkdtemp(), "report_to": "none", "save_strategy": "no", "disable_tqdm": True, **training}
    config = training_config(DPOConfig, values, dtype)
    return AlignDPOTrainer(
        model=policy, args=config, train_dataset=pairs, processing_class=plain_tokenizer(), callbacks=[times]
    )


def generate(tiny: bool) -> dict[str, Any]:
    """Tokens a second of our own decoding, in bfloat16."""
    from align_ko.generation.local import draw_tokens
    from align_ko.generation.requests import GREEDY, Request

    shape = Shape(tiny)
    tokenizer = _byte_tokenizer()
    model = random_weights(shape.config, shape.device).eval()
    told = []
    for rows in shape.batches:
        drawn: list[int] = []
        requests = [Request([{"role": "user", "content": "a" * shape.prompt}], GREEDY, row) for row in range(rows)]
        _wait()
        began = time.perf_counter()
        draw_tokens(requests, lambda row, ids, ended, drawn=drawn: drawn.append(len(ids)), model, tokenizer, shape.answer, rows)
        _wait()
        told.append(f"batch {rows}: {sum(drawn) / (time.perf_counter() - began):,.0f} tokens a second")
    return {"told": told}


def _byte_tokenizer() -> Any:
    """A token for every byte, and a template of the contents alone: prompts of exact length for any vocabulary over 300."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in alphabet[:3]])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    return tokenizer


def merge(tiny: bool) -> dict[str, Any]:
    """A LoRA adapter merged into bfloat16 weights: equal to their sum in float32, rounded once."""
    from peft import get_peft_model

    from align_ko.models.load import lora_config
    from align_ko.models.merge import merge_adapter

    shape = Shape(tiny)
    model = random_weights(shape.config, shape.device)
    adapted: Any = get_peft_model(model, lora_config(shape.args(four_bit=False)))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.02)
    layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
    wanted = (layer.base_layer.weight.float() + layer.get_delta_weight("default").float()).to(torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        adapted.save_pretrained(folder)
        base = adapted.unload()
        _wait()
        began = time.perf_counter()
        merged = merge_adapter(base, folder)
        _wait()
    spent = time.perf_counter() - began
    unequal = int((merged.model.layers[0].self_attn.q_proj.weight != wanted).sum())
    return {"told": [f"{spent:.1f} s; {unequal:,} of {wanted.numel():,} weights of a layer differ from the sum in float32"]}


def equal_losses(tiny: bool) -> dict[str, Any]:
    """The quickstart's shape, ten steps of SFT and DPO in float32 without dropout: losses on the GPU beside the CPU's."""
    config = small_llama(64, 2, 512) if tiny else load_config("quickstart", str(ROOT / "recipes/quickstart/sft.yaml"))
    args = ModelArgs("random", "float32", lora_r=8, lora_alpha=16, lora_dropout=0.0)
    steps, told = 3 if tiny else 10, []
    for stage in ("SFT", "DPO"):
        curves = [_losses(stage, config, args, steps, use_cpu) for use_cpu in (True, False)]
        apart = max(abs(a - b) for a, b in zip(*curves, strict=True))
        told.append(f"{stage}: {curves[0][0]:.4f} → {curves[0][-1]:.4f} in {steps} steps, at most {apart:.1e} apart")
        if apart > 2e-3:
            raise ValueError(f"{stage}'s losses differ by {apart:.4f}: {curves}")
    return {"told": told}


def _losses(stage: str, config: PretrainedConfig, args: ModelArgs, steps: int, use_cpu: bool) -> list[float]:
    from peft import get_peft_model

    from align_ko.models.load import lora_config

    training = {"per_device_train_batch_size": 2, "max_steps": steps, "logging_strategy": "steps", "logging_steps": 1,
                "learning_rate": 1e-3, "gradient_checkpointing": False, "use_cpu": use_cpu, "bf16": False}  # fmt: skip
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if stage == "SFT":
        rows = random_rows([48] * 2 * steps, config.get_text_config().vocab_size)
        trainer = make_trainer(config, args, rows, {**training, "max_length": None}, model=model)
    else:
        policy = get_peft_model(model, lora_config(args))
        pairs = random_pairs(2 * steps, 48, config.get_text_config().vocab_size)
        trainer = _dpo(policy, pairs, StepTimes(), training, "float32")
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
