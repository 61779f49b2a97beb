"""Accelerators without their packages or a GPU, for tests of what they carry.

SevenNet is told that they are there, and its own code puts them into a model; only
the convolution itself is e3nn's. As in the real ones, its constants have names of
their own in a state dict, and gathering and scattering happen inside.
"""

from __future__ import annotations

from typing import Any

import pytest
import sevenn.nn.cue_helper
import sevenn.nn.flash_helper
import sevenn.nn.oeq_helper
import torch
from e3nn.o3 import TensorProduct
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.nn.convolution import IrrepsScatterGatterFusedConvolution
from sevenn.nn.sequential import AtomGraphSequential

FLAGS = ('enable_cueq', 'enable_flash', 'enable_oeq')
AVAILABLE = {
    'enable_cueq': 'sevenn.nn.cue_helper.is_cue_available',
    'enable_flash': 'sevenn.nn.flash_helper.is_flash_available',
    'enable_oeq': 'sevenn.nn.oeq_helper.is_oeq_available',
}


class FusedConvolution(torch.nn.Module):
    """What FlashTP's, OpenEquivariance's and cuEquivariance's do, by e3nn."""

    def __init__(self, use_lammps: bool = False, **kwargs: Any) -> None:
        super().__init__()
        kwargs.update(shared_weights=False, internal_weights=False)
        self.product = TensorProduct(**kwargs)
        self.register_buffer('own_constant', torch.arange(3.0))

    def forward(
        self,
        x: torch.Tensor,
        edge_filter: torch.Tensor,
        weight: torch.Tensor,
        edge_src: torch.Tensor,
        edge_dst: torch.Tensor,
    ) -> torch.Tensor:
        message = self.product(x[edge_src.long()], edge_filter, weight)
        out = message.new_zeros(x.shape[0], message.shape[1])
        return out.index_add(0, edge_dst.long(), message)


def _patch_cue(module: Any, group: str, **kwargs: Any) -> Any:
    fused = IrrepsScatterGatterFusedConvolution.from_irreps_convolution(module)
    fused.convolution_cls = FusedConvolution
    return fused


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make SevenNet believe in all three."""
    for name in AVAILABLE.values():
        monkeypatch.setattr(name, lambda: True)
    for module, name, value in (
        (sevenn.nn.cue_helper, 'patch_convolution', _patch_cue),
        (sevenn.nn.flash_helper, 'uvu_TP', FusedConvolution),
        (sevenn.nn.oeq_helper, 'OEQConvolution', FusedConvolution),
    ):
        monkeypatch.setattr(module, name, value, raising=False)


def pretend_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make SevenNet believe in none."""
    for name in AVAILABLE.values():
        monkeypatch.setattr(name, lambda: False)


def is_accelerated(model: torch.nn.Module) -> bool:
    """Whether every convolution of a model is another than e3nn's."""
    layers = [m for name, m in model.named_children() if 'convolution' in name]
    return bool(layers) and not any(
        isinstance(layer.convolution, TensorProduct) for layer in layers
    )


def converted(path: Any, flag: str) -> AtomGraphSequential:
    """A checkpoint's model with an accelerator, as SevenNet builds it."""
    return SevenNetCheckpoint(path).build_model(**{flag: True}).eval()
