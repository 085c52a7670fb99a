"""In which order the rows of an epoch are trained when rows of like length share a batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

GROUP_OF_BATCHES = 100
"""Batches whose rows are drawn at random, then sorted by length: so many that rows of one batch are nearly equally long (99 %
real tokens with 8 rows, `make bench-batching`), so few that every epoch puts other rows together."""
LENGTH_CLASSES = 25
"""The order goes in rounds with one batch of each class, so that a few steps, too, see all lengths in equal shares."""


class ShuffledLengthGroupedSampler(Sampler[int]):
    """Batches of like lengths in random order; the same order for the same seed and epoch.

    Batches of equal lengths differ from one another far more than random batches do: in plain random order the first 50 of
    them are a tenth longer or shorter than the whole in more than one run in five (one standard deviation is 8 % with the
    lengths of planning/reference_lengths.py). So the order is random within rounds of LENGTH_CLASSES batches, each of which
    holds one of every class.

    Args:
        lengths: tokens of each row.
        batch_size: rows that are computed together (per-device batch × accumulation × processes keeps steps alike).
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        group = self.batch_size * GROUP_OF_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(order), group):
            part = sorted(order[start : start + group], key=lambda row: self.lengths[row])
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        # A smaller last batch must stay last: the data loader cuts the flat list into equal batches.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [row for batch in batches if len(batch) < self.batch_size for row in batch]
        for position in self._rounds(full, generator):
            yield from full[position]
        yield from rest

    def _rounds(self, batches: list[list[int]], generator: torch.Generator) -> list[int]:
        """Positions of `batches`, every LENGTH_CLASSES of them one from each class of lengths, in random order."""
        by_length = sorted(range(len(batches)), key=lambda position: sum(self.lengths[row] for row in batches[position]))
        classes = [chunk.tolist() for chunk in torch.tensor(by_length).tensor_split(LENGTH_CLASSES)]
        places: dict[int, float] = {}
        for members in classes:
            jitter = torch.rand(len(members), generator=generator).tolist()
            for turn, member in enumerate(torch.randperm(len(members), generator=generator).tolist()):
                places[members[member]] = turn + jitter[turn]
        return sorted(places, key=places.__getitem__)
