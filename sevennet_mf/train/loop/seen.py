"""A batch as this processor sees it, and what a device found out about it."""

from __future__ import annotations

from typing import Any, Final

import sevenn._keys as KEY
import torch

from sevennet_mf import keys
from sevennet_mf.train.loop.loss import LABELS

# what errors are measured by, beside the predictions
KEPT: Final[tuple[str, ...]] = (
    keys.FIDELITY_INDEX,
    keys.STRUCTURE_INDEX,
    keys.SAMPLE_WEIGHT,
    KEY.NUM_ATOMS,
    KEY.BATCH,
    *(ref_key for _, _, ref_key, _ in LABELS),
)
Seen = dict[str, torch.Tensor]


def labels_of(batch: Any) -> Seen:
    """The labels of a batch, which is to be asked before it goes to a device."""
    return {name: batch[name].cpu() for name in KEPT}


def fetch(labels: Seen, output: Any, numbers: torch.Tensor) -> tuple[Seen, list]:
    """Bring predictions and some numbers to the processor, in one transfer.

    labels: as labels_of() gave them; output: what the model made of the batch;
    numbers: (n,), on the model's device. Returns the labels with the predictions
    beside them, without gradients, and the numbers. This is the one time that a
    step waits for the device.
    """
    predicted = {key: output[key].detach() for *_, key in LABELS}
    parts = [numbers, *predicted.values()]
    packed = torch.cat([part.reshape(-1).to(parts[-1]) for part in parts]).cpu()
    own, *flat = packed.split([part.numel() for part in parts])
    seen = dict(labels)
    for (key, value), part in zip(predicted.items(), flat, strict=True):
        seen[key] = part.view(value.shape)
    return seen, own.tolist()
