"""SevenNet's convolutions on a CPU through the fused kernel.

A layer of the host is replaced by one that shares its parameters and buffers, so
that state dicts, and with them checkpoints, are the same with and without it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any, Final

import sevenn._keys as KEY
import torch
import torch.nn as nn
from e3nn.util.jit import compile_mode
from sevenn._const import AtomGraphDataType
from sevenn.nn.convolution import IrrepsConvolution
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf.kernels import library
from sevennet_mf.kernels.plan import plan_of
from sevennet_mf.model import accelerators

# (n_pairs, n_basis) | radial basis, once for both directions of a pair of atoms
PAIR_EMBEDDING: Final[str] = '_pair_embedding'
# (n_edges,) int32 | row of each edge in PAIR_EMBEDDING
PAIR_ROW: Final[str] = '_pair_row'


@compile_mode('script')
class FusedConvolution(IrrepsConvolution):
    """`IrrepsConvolution` that sums messages as they are made.

    Anywhere but on a CPU it is the host's layer.

    Args:
        layer: The host's, whose parameters and buffers are shared.
        first: Whether it finds the pairs of atoms for the layers after it.
        share_pairs: Whether both directions of a pair share their radial weights,
            whose gradient is then divided equally between them.
    """

    def __init__(
        self, layer: IrrepsConvolution, first: bool, share_pairs: bool
    ) -> None:
        nn.Module.__init__(self)
        # the very same submodules and parameters
        self.__dict__.update(layer.__dict__)
        for name in ('_parameters', '_buffers', '_modules'):
            self.__dict__[name] = getattr(layer, name).copy()
        self._non_persistent_buffers_set: set[str] = set()
        self.register_buffer('plan', plan_of(layer.convolution), persistent=False)
        self.first = first
        self.share_pairs = share_pairs

    def forward(self, data: AtomGraphDataType) -> AtomGraphDataType:
        x = data[self.key_x]
        if not torch.jit.is_scripting() and not _can(x):  # type: ignore[attr-defined]
            return IrrepsConvolution.forward(self, data)
        edge_index = data[self.key_edge_idx].to(torch.int32)
        target, source = edge_index[0].contiguous(), edge_index[1].contiguous()
        if self.share_pairs:
            if self.first:
                find_pairs(data, source, target, self.key_weight_input)
            weight_input = data[PAIR_EMBEDDING]
            row = data[PAIR_ROW]
        else:
            weight_input = data[self.key_weight_input]
            row = torch.empty(0, dtype=torch.int32)
        x = torch.ops.sevennet_mf.convolution(
            x,
            data[self.key_filter],
            self.weight_nn(weight_input),
            row,
            source,
            target,
            x.shape[0],
            self.plan,
        )
        data[self.key_x] = x.div(self.denominator)
        return data


def _can(x: torch.Tensor) -> bool:
    """Whether the kernel supports tensors like `x`; warns of an unusual dtype."""
    if x.device.type != 'cpu':
        return False
    if x.dtype in (torch.float32, torch.float64):
        return True
    _say_left(f'a {x.dtype} model runs with e3nn: the kernel does not support it.')
    return False


def find_pairs(
    data: AtomGraphDataType, source: torch.Tensor, target: torch.Tensor, key: str
) -> None:
    """Put the radial basis of each pair, and the row of each edge, into `data`.

    The two directions of a pair have one length; the mean of both keeps the gradient
    of each.

    Args:
        data: The host's graph, changed in place.
        source: (n_edges,) int32.
        target: (n_edges,) int32.
        key: Of the radial basis of all edges in `data`.
    """
    n_atoms = data[KEY.NODE_FEATURE].shape[0]
    partner = torch.ops.sevennet_mf.partners(
        source, target, data[KEY.EDGE_VEC], n_atoms
    )
    is_first = partner >= torch.arange(len(partner))
    first = torch.nonzero(is_first).squeeze(-1)
    row = torch.cumsum(is_first, 0) - 1
    row = torch.where(is_first, row, row[partner])
    basis = data[key]
    data[PAIR_EMBEDDING] = 0.5 * (
        basis.index_select(0, first) + basis.index_select(0, partner[first])
    )
    data[PAIR_ROW] = row.to(torch.int32)


def fuse(model: AtomGraphSequential) -> AtomGraphSequential:
    """Replace the convolutions of a model, in place, where the kernel can do them.

    Nothing changes where the kernel is off or was not compiled, or where the model
    has an accelerator already. It warns, once, of a layer that the kernel cannot do.

    Args:
        model: A model of SevenNet; its parameters stay the same objects.

    Returns:
        `model`.

    Raises:
        UserError: The compiled library cannot be used.
    """
    if why_not() is not None:
        return model
    share = _may_share(model)
    for name, layer in list(model._modules.items()):
        # segments of a parallel model have ghosts; model/tabulated.py is for them
        if type(layer) is not IrrepsConvolution or layer.is_parallel:
            continue
        try:
            fused = FusedConvolution(layer, not fused_layers(model), share)
        except ValueError as error:
            _say_left(f'{name} runs with e3nn: {error}.')
            continue
        model._modules[name] = fused.train(layer.training)
    return model


def fused_layers(model: nn.Module) -> list[FusedConvolution]:
    """Return the layers of `model` that the kernel computes."""
    return [m for m in model.modules() if isinstance(m, FusedConvolution)]


def why_not() -> str | None:
    """Return why models run with e3nn here, or None where the kernel is used."""
    reason = library.why_not()
    if reason is None:
        from sevennet_mf.kernels import operators  # noqa: F401 registers them
    return reason


def describe(model: nn.Module) -> str:
    """Return what computes the convolutions of `model` on a CPU, for logs."""
    if fused_layers(model):
        return f'fused kernel ({library.instruction_set()})'
    return f'e3nn, because {why_not() or "the kernel cannot do this model"}'


def carrier(config: Mapping[str, Any], model: nn.Module) -> str:
    """Return what computes the convolutions of a model in training, for its log.

    Args:
        config: The host's, with the accelerator and the device.
        model: The model.
    """
    used = accelerators.name_of(config)
    if used is not None:
        return used
    device = str(config.get(KEY.DEVICE, 'auto'))
    on_gpu = torch.cuda.is_available() if device == 'auto' else device != 'cpu'
    return 'e3nn' if on_gpu else describe(model)


def _may_share(model: AtomGraphSequential) -> bool:
    """False where virials of single atoms need the gradient of each direction."""
    output = model._modules.get('force_output')
    return not getattr(output, 'use_atomic_virial', False)


@functools.cache
def _say_left(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)
