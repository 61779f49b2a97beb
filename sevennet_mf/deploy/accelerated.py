"""A fidelity as a file whose biases SevenNet's accelerators do not lose.

SevenNet drops `linear.bias` when it converts a model to cuEquivariance, FlashTP or
OpenEquivariance, but it keeps the rows of a modality, which are part of
`linear.weight`. So the biases are stored there: in a file of two modalities with
equal rows, either of which gives the same energies.
"""

from __future__ import annotations

from typing import Any

import sevenn._keys as KEY
import torch
from sevenn.nn.linear import IrrepsLinear
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf import keys
from sevennet_mf.errors import UserError
from sevennet_mf.model.build import SITE_LAYER
from sevennet_mf.model.linear import FidelityLinear
from sevennet_mf.model.plain_config import RESCALE, rescale_numbers

READOUT = 'reduce_hidden_to_energy'  # its bias is a constant of each atom's energy
BIAS, WEIGHT = '.linear.bias', '.linear.weight'


def row_names(name: str) -> tuple[str, str]:
    """Return names of the two equal modalities of a file for the fidelity `name`."""
    return name, f'same_as_{name}'


def two_rows(
    plain: AtomGraphSequential,
    config: dict[str, Any],
    state: dict[str, torch.Tensor],
    name: str,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return (configuration, state dict) without any `linear.bias`.

    Sites become modal where a bias is not zero; if there is none, the result is
    plain. The bias of the readout goes into the reference energies.

    Args:
        plain: The folded model, built from `config` with the weights `state`.
        config: The host's configuration of it.
        state: Its state dict.
        name: Of the fidelity.

    Raises:
        UserError: A layer that SevenNet has no modality for has a bias.
    """
    config, state = dict(config), dict(state)
    _move_readout_bias(state)
    biased = [
        key.removesuffix(BIAS)
        for key, value in state.items()
        if key.endswith(BIAS) and bool(value.any())
    ]
    sites = [
        site
        for site, ending in SITE_LAYER.items()
        if any(layer.endswith(ending) for layer in biased)
    ]
    endings = tuple(SITE_LAYER[site] for site in sites)
    stray = [layer for layer in biased if not layer.endswith(endings)]
    if stray:
        raise UserError(
            f'{", ".join(stray)} has a bias, which SevenNet drops for accelerators '
            'and which cannot be stored elsewhere. Export without --accelerated.'
        )
    for layer_name, layer in plain.named_children():
        if not isinstance(layer, IrrepsLinear):
            continue
        own = layer_name + WEIGHT, layer_name + BIAS
        if sites and layer_name.endswith(endings):
            state[own[0]] = _weight_with_rows(layer, *(state[key] for key in own))
        state[own[1]] = state[own[1]].new_zeros(0)
    config[KEY.USE_BIAS_IN_LINEAR] = False
    config[KEY.SHIFT] = rescale_numbers(state, 'shift')
    if sites:
        rows = row_names(name)
        config.update({keys.SITE_SWITCH[site]: True for site in sites})
        config[KEY.USE_MODALITY] = True
        config[KEY.MODAL_MAP] = {row: index for index, row in enumerate(rows)}
        config[KEY.NUM_MODALITIES] = len(rows)
        for key in (KEY.SHIFT, KEY.SCALE):  # one number becomes one per element
            state[f'{RESCALE}.{key}'] = _per_element(
                state[f'{RESCALE}.{key}'], config[KEY.NUM_SPECIES]
            )
    return config, state


def _per_element(numbers: torch.Tensor, n_species: int) -> torch.Tensor:
    return numbers.expand(n_species).clone()


def _move_readout_bias(state: dict[str, torch.Tensor]) -> None:
    """E = scale (W x + b) + shift: put scale b into the shift, in float64."""
    bias = state.get(READOUT + BIAS)  # a readout of another kind has none
    if bias is None or not bias.numel():
        return
    shift, scale = (state[f'{RESCALE}.{key}'].double() for key in ('shift', 'scale'))
    moved = shift + scale * bias.double()
    state[f'{RESCALE}.shift'] = moved.to(state[f'{RESCALE}.shift'].dtype)
    state[READOUT + BIAS] = torch.zeros_like(bias)


@torch.no_grad()
def _weight_with_rows(
    layer: IrrepsLinear, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """The host's flat weight of two modalities, both with `bias`.

    Two more 0e inputs change e3nn's normalisation of the 0e outputs, which
    FidelityLinear knows: this is `fold` backwards.
    """
    modal = FidelityLinear(
        layer.irreps_in,
        layer.irreps_out,
        layer.key_input,
        layer.key_output,
        num_modalities=2,
        lazy_layer_instantiate=False,
        **{**layer.linear_kwargs, 'biases': False},
    ).to(weight)
    modal.weight.copy_(weight.double() / modal.weight_scale.double())
    for row in modal.bias:
        row.copy_(bias.double() / modal.bias_scale)
    flat = modal.state_dict()[WEIGHT.removeprefix('.')]
    assert isinstance(flat, torch.Tensor)
    return flat.clone()
