"""The next token of every row of a batch whose rows have decoding settings and random numbers of their own.

transformers' processors have one temperature, top_p and penalty for the whole batch, and draw from one generator, so an
answer would depend on its neighbours. Here a row's numbers follow from its seed alone.
"""

from __future__ import annotations

import torch

from align_ko.recipe import DecodingArgs

HEAD = 256  # likeliest tokens that nearly always contain the nucleus


class RowKnobs:
    """Settings of B rows, and a random number in [0, 1) for each of their tokens."""

    def __init__(
        self, decodings: list[DecodingArgs], seeds: list[int], max_new_tokens: int, device: torch.device | str = "cpu"
    ) -> None:
        def column(name: str) -> torch.Tensor:
            return torch.tensor([float(getattr(d, name)) for d in decodings], device=device)

        self.temperature, self.top_p, self.penalty = map(column, ("temperature", "top_p", "repetition_penalty"))
        # Drawn on the CPU whatever the device is, so that the same seed gives the same numbers everywhere.
        numbers = [torch.rand(max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.uniform = torch.stack(numbers).to(device)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self.temperature, self.top_p, self.penalty, self.uniform = (
            values[rows] for values in (self.temperature, self.top_p, self.penalty, self.uniform)
        )

    def choose(self, seen: torch.Tensor, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Token number `step` of each row. seen: ids (B, L) that the penalty counts; logits (B, V), changed in place → (B,)."""
        if (self.penalty != 1).any():
            penalise(logits, seen, self.penalty)
        token = logits.argmax(-1)
        sampled = self.temperature.nonzero()[:, 0]
        if len(sampled):
            probabilities = (logits[sampled] / self.temperature[sampled, None]).softmax(-1)
            token[sampled] = nucleus(probabilities, self.top_p[sampled], self.uniform[sampled, step])
        return token


def penalise(logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor) -> None:
    """transformers' repetition penalty, in place: a token seen before has its logit divided by it, or times it below 0."""
    scores, factor = logits.gather(1, seen), penalty[:, None]
    logits.scatter_(1, seen, torch.where(scores < 0, scores * factor, scores / factor))


def nucleus(probabilities: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor, head: int = HEAD) -> torch.Tensor:
    """One token per row from the smallest set that has `top_p` of the probability; (B, V), (B,), (B,) → (B,).

    The same distribution as transformers' top_p, which sorts the whole vocabulary of every row (most of a step on a CPU):
    the set is nearly always within the `head` likeliest tokens, and only the other rows are sorted.
    """
    likeliest, ids = probabilities.topk(min(head, probabilities.shape[-1]))
    token = _pick(likeliest, ids, top_p, uniform)
    wide = (likeliest.sum(-1) < top_p).nonzero()[:, 0]
    if len(wide):
        everything, order = probabilities[wide].sort(descending=True)
        token[wide] = _pick(everything, order, top_p[wide], uniform[wide])
    return token


def _pick(likeliest: torch.Tensor, ids: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Walk down the tokens, likeliest first, until `uniform` of the set's probability is passed."""
    inside = likeliest.cumsum(-1) - likeliest < top_p[:, None]
    mass = (likeliest * inside).cumsum(-1)
    place = (mass <= uniform[:, None] * mass[:, -1:]).sum(-1)
    return ids.gather(-1, place.clamp(max=inside.sum(-1) - 1)[:, None])[:, 0]
