"""Convolutions for MD: tabulated radial weights, and inference only.

The weights of an edge are functions of its length alone. A table of polynomials
replaces the radial network when a model is scripted for LAMMPS.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import sevenn._keys as KEY
import torch
import torch.nn as nn
from e3nn.util.jit import compile_mode
from sevenn._const import AtomGraphDataType
from sevenn.nn.convolution import IrrepsConvolution
from sevenn.nn.edge_embedding import EdgeEmbedding, XPLORCutoff

from sevennet_mf.errors import HostError
from sevennet_mf.kernels.plan import padded_weights, plan_of

INTERVALS: Final = (100, 150, 200, 250, 300, 400, 500, 700, 1000, 1500)
DEGREE: Final = 5  # of convolution.h
# relative to the largest weight and slope at a length or beyond it: the rounding of
# the network's own output in float32
TOLERANCE: Final = 3e-7
SHORTEST: Final = 0.1  # of the cutoff: atoms never come closer
LONG: Final = 0.5  # of the cutoff: beyond it weights go to zero

class FormError(Exception):
    """A model cannot be written in one form; another form may work."""


Radial = Callable[[torch.Tensor], torch.Tensor]


@compile_mode('script')
class ScriptableConvolution(IrrepsConvolution):
    """The host's layer, which is scripted as a `DeployedConvolution`.

    It has the host's parameters, and is trained and evaluated like the host's.

    Args:
        layer: The host's.
        embedding: The edge embedding that computes the input of its radial network.
        tabulate: Whether a table replaces the radial network.
    """

    def __init__(
        self, layer: IrrepsConvolution, embedding: EdgeEmbedding, tabulate: bool
    ) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(layer.__dict__)
        self.tabulate = tabulate
        self.embedding = (embedding,)  # a tuple: not a submodule of this one

    def instantiate(self) -> None:
        IrrepsConvolution.instantiate(self)
        self.plan = plan_of(self.convolution)  # before it becomes TorchScript

    def __prepare_scriptable__(self) -> nn.Module:
        return DeployedConvolution(self)


@compile_mode('script')
class DeployedConvolution(nn.Module):
    """Sums messages with the operator that the pair styles provide; evaluation only.

    Args:
        layer: With the weights that it is deployed with.
    """

    def __init__(self, layer: ScriptableConvolution) -> None:
        super().__init__()
        self.key_x = layer.key_x
        self.key_filter = layer.key_filter
        self.key_weight_input = layer.key_weight_input
        self.key_edge_idx = layer.key_edge_idx
        self.is_parallel = layer.is_parallel
        self.denominator = nn.Parameter(
            layer.denominator.detach().clone(), requires_grad=False
        )
        self.register_buffer('plan', layer.plan)
        self.is_tabulated = layer.tabulate
        table, self.step = torch.empty(0), 0.0
        if layer.tabulate:
            table, self.step = table_of(layer)
        self.register_buffer('table', table)
        # TorchScript needs the attribute in either case
        self.weight_nn = nn.Identity() if layer.tabulate else layer.weight_nn

    def forward(self, data: AtomGraphDataType) -> AtomGraphDataType:
        x = data[self.key_x]
        n_targets = x.shape[0]
        if self.is_parallel:
            n_targets = int(data[KEY.NLOCAL].item())
            x = torch.cat([x, data[KEY.NODE_FEATURE_GHOST]])
        if self.is_tabulated:
            weight = data[KEY.EDGE_LENGTH]
        else:
            weight = self.weight_nn(data[self.key_weight_input])
        edge_index = data[self.key_edge_idx]
        x = torch.ops.sevennet_mf.deployed_convolution(
            x,
            data[self.key_filter],
            weight,
            self.table,
            self.step,
            edge_index[1],
            edge_index[0],
            n_targets,
            self.plan,
        )
        data[self.key_x] = x.div(self.denominator)
        return data


def make_scriptable(layers: OrderedDict, tabulate: bool) -> OrderedDict:
    """Replace the host's convolutions by ones with a fast scripted form.

    Args:
        layers: The host's, not yet instantiated.
        tabulate: Whether tables replace the radial networks.

    Raises:
        HostError: There is no edge embedding to compute the tables with.
    """
    from sevennet_mf.kernels.operators import register_deployed

    register_deployed()
    found = (m for m in layers.values() if isinstance(m, EdgeEmbedding))
    embedding = next(found, None)
    if embedding is None:
        raise HostError('the model has no edge embedding')
    return OrderedDict(
        (
            name,
            ScriptableConvolution(layer, embedding, tabulate)
            if type(layer) is IrrepsConvolution
            else layer,
        )
        for name, layer in layers.items()
    )


def table_of(layer: ScriptableConvolution) -> tuple[torch.Tensor, float]:
    """Return polynomials of the radial weights, and the length of their intervals.

    There are as few as leave errors of weights and slopes within float32's rounding.

    Returns:
        (intervals, DEGREE + 1, padded weights) float32, as convolution.h expects
        them; and the length of an interval in Å.

    Raises:
        FormError: Even the largest number of INTERVALS is not accurate enough.
    """
    (embedding,) = layer.embedding
    cutoff = cutoff_of(embedding.cutoff_function)
    radial = _in_double(embedding, layer.weight_nn)
    for intervals in aligned(embedding.cutoff_function, cutoff):
        step = cutoff / intervals
        pieces = _pieces(radial, intervals, step)
        if _error(radial, pieces, step) <= TOLERANCE:
            break
    else:
        raise FormError(
            f'{INTERVALS[-1]} polynomials do not reproduce the radial weights to '
            f'within {TOLERANCE}'
        )
    place = padded_weights(layer.plan, torch.float32)
    table = torch.zeros(intervals, DEGREE + 1, int(place[-1]))
    table[:, :, place[:-1]] = pieces.float()
    return table, step


def _pieces(radial: Radial, intervals: int, step: float) -> torch.Tensor:
    """Coefficients of the lengths in steps: (intervals, DEGREE + 1, n_weights).

    Each agrees with the network at its ends and at the Chebyshev points between.
    """
    powers = torch.arange(DEGREE + 1, dtype=torch.float64)
    nodes = 0.5 - 0.5 * torch.cos(powers * (math.pi / DEGREE))
    starts = torch.arange(intervals, dtype=torch.float64)
    values = radial((starts[:, None] + nodes).reshape(-1) * step)
    values = values.reshape(intervals, DEGREE + 1, -1)
    solve = torch.linalg.inv(nodes[:, None] ** powers)
    return torch.einsum('dn,inw->idw', solve, values)


def _error(radial: Radial, pieces: torch.Tensor, step: float) -> float:
    """The largest relative error of weights and slopes.

    It is measured between the points of each piece; slopes are finite differences.
    Weights grow towards short lengths, so errors are relative to the largest value
    at a length or beyond it, and to no less than that at LONG.
    """
    starts = torch.arange(len(pieces), dtype=torch.float64)
    powers = torch.arange(DEGREE + 1, dtype=torch.float64)
    apart, size = torch.zeros(2, 2, len(pieces), dtype=torch.float64)
    for t in torch.linspace(0.05, 0.95, 7, dtype=torch.float64).tolist():
        exact, errors = [], []
        for place in (t - 1e-3, t + 1e-3):
            exact.append(radial((starts + place) * step))
            found = torch.einsum('d,idw->iw', place**powers, pieces)
            errors.append(found - exact[-1])
        for pair, largest in ((errors, apart), (exact, size)):
            for i, array in enumerate((pair[0], pair[1] - pair[0])):
                largest[i] = torch.maximum(largest[i], array.abs().amax(1))
    beyond = size.flip(1).cummax(1).values.flip(1)
    unit = torch.maximum(beyond, beyond[:, int(LONG * len(pieces)), None])
    seen = starts >= SHORTEST * len(pieces)
    return float((apart / unit.clamp_min(1e-30))[:, seen].max())


def cutoff_of(cutoff_function: nn.Module) -> float:
    """Return the cutoff in Å; SevenNet's cutoff functions name it differently."""
    if isinstance(cutoff_function, XPLORCutoff):
        return float(cutoff_function.r_cut)
    return float(cutoff_function.cutoff_length)  # type: ignore[arg-type]


def aligned(cutoff_function: nn.Module, cutoff: float) -> list[int]:
    """Return numbers of intervals with a knot at a kink of the cutoff function."""
    kink = Fraction(getattr(cutoff_function, 'r_on', 0.0) / cutoff)
    unit = kink.limit_denominator(100).denominator
    return [-(-n // unit) * unit for n in INTERVALS]


def _in_double(embedding: EdgeEmbedding, network: nn.Module) -> Radial:
    """The radial weights as a function of lengths (n,), in float64."""
    basis, envelope, network = (
        copy.deepcopy(module).double()
        for module in (embedding.basis_function, embedding.cutoff_function, network)
    )
    if not isinstance(basis.coeffs, nn.Parameter):
        basis.coeffs = basis.coeffs.double()  # not a buffer either

    @torch.no_grad()
    def radial(r: torch.Tensor) -> torch.Tensor:
        r = r.clamp_min(1e-6)  # the basis divides by it
        return network(basis(r) * envelope(r).unsqueeze(-1))

    return radial
