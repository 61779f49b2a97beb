"""State dicts of FidelityLinear in the host's own format.

The host's modality layer is one e3nn Linear whose last 0e input block is the
one-hot fidelity: its flat `linear.weight` ends with the rows of b, for each 0e
output block a (n_fidelities, mul) matrix. Nothing is rescaled on the way, so
weights go from file to memory to file unchanged to the last bit.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn as nn
from e3nn.o3 import Irreps


class FidelityOwned(Protocol):
    """What these functions need of a layer; FidelityLinear has it."""

    irreps_out: Irreps
    num_modalities: int
    weight: nn.Parameter
    bias: nn.ParameterList


# buffers of e3nn's Linear: weights live in FidelityLinear's own Parameters
WEIGHT, BIAS = 'linear.weight', 'linear.bias'


def _scalar_blocks(layer: FidelityOwned) -> list[int]:
    return [mul for mul, ir in layer.irreps_out if ir.is_scalar() and mul > 0]


def join(layer: FidelityOwned, rows: torch.Tensor) -> torch.Tensor:
    """Return rows of b, (n_fidelities, n_scalar), in the host's flat order."""
    parts = torch.split(rows, _scalar_blocks(layer), dim=1)
    return torch.cat([part.reshape(-1) for part in parts])


def split(layer: FidelityOwned, flat: torch.Tensor) -> torch.Tensor:
    """Return the host's flat order as rows of b, (n_fidelities, n_scalar)."""
    n = layer.num_modalities
    parts = torch.split(flat, [n * mul for mul in _scalar_blocks(layer)])
    return torch.cat([part.reshape(n, -1) for part in parts], dim=1)


def write(
    layer: FidelityOwned, state: dict[str, Any], prefix: str, _metadata: Any
) -> None:
    """Turn our Parameters into the host's two entries; post-hook of state_dict()."""
    rows = [state.pop(f'{prefix}bias.{i}') for i in range(layer.num_modalities)]
    weight = state.pop(f'{prefix}weight')
    if rows[0].numel():
        weight = torch.cat([weight, join(layer, torch.stack(rows))])
    state[prefix + WEIGHT] = weight
    state[prefix + BIAS] = state.pop(f'{prefix}common_bias')


def read(
    layer: FidelityOwned,
    state: dict[str, Any],
    prefix: str,
    _metadata: Any,
    _strict: bool,
    _missing: list[str],
    _unexpected: list[str],
    errors: list[str],
) -> None:
    """Turn the host's two entries into ours; pre-hook of load_state_dict()."""
    if prefix + WEIGHT not in state:
        return  # torch reports what is missing
    flat = state[prefix + WEIGHT]
    n_shared = layer.weight.numel()
    n_rows = layer.num_modalities * layer.bias[0].numel()
    if flat.numel() != n_shared + n_rows:
        errors.append(
            f'{prefix}{WEIGHT} has {flat.numel()} numbers; {layer.num_modalities} '
            f'fidelities need {n_shared + n_rows}.'
        )
        return
    empty = flat.new_zeros(0)
    state[prefix + WEIGHT] = empty
    state[prefix + 'weight'] = flat[:n_shared]
    state[prefix + 'common_bias'] = state.pop(prefix + BIAS, empty)
    state[prefix + BIAS] = empty
    rows = split(layer, flat[n_shared:]) if n_rows else flat.new_zeros(1, 0)
    for i in range(layer.num_modalities):
        state[f'{prefix}bias.{i}'] = rows[i if n_rows else 0]
