"""Labels and predictions of a batch, for its errors, in one wait for the device."""

from __future__ import annotations

from typing import Any, Final

import sevenn._keys as KEY
import torch

from sevennet_mf import keys
from sevennet_mf.train.loop.loss import LABELS

# what errors are computed from, besides the predictions
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
    """Return the labels of a batch; call it before the batch goes to a device."""
    return {name: batch[name].cpu() for name in KEPT}


def fetch(labels: Seen, output: Any, numbers: torch.Tensor) -> tuple[Seen, list]:
    """Bring predictions and some numbers to the CPU, in one transfer.

    This is the only time that a step waits for the device.

    Args:
        labels: as labels_of() returned them.
        output: what the model returned for the batch.
        numbers: (n,), on the model's device.

    Returns:
        Labels and predictions, without gradients, and the numbers.
    """
    predicted = {key: output[key].detach() for *_, key in LABELS}
    parts = [numbers, *predicted.values()]
    packed = torch.cat([part.reshape(-1).to(parts[-1]) for part in parts]).cpu()
    own, *flat = packed.split([part.numel() for part in parts])
    seen = dict(labels)
    for (key, value), part in zip(predicted.items(), flat, strict=True):
        seen[key] = part.view(value.shape)
    return seen, own.tolist()
