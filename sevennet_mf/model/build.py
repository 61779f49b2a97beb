"""From the host's layers to layers with fidelity sites."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn as nn
from e3nn.o3 import Linear
from sevenn.nn.linear import IrrepsLinear

from sevennet_mf import keys
from sevennet_mf.errors import HostError
from sevennet_mf.model.accelerators import CONVOLUTION_CONSTANT
from sevennet_mf.model.encodings import fidelity_linear
from sevennet_mf.model.linear import FidelityLinear

# Name of the host's layers at each site, as its patch_modality() picks them. The
# first two are ends of names: '0_self_interaction_1', 'ghost_onehot_to_feature_x'.
SITE_LAYER = {
    'node_embedding': 'onehot_to_feature_x',
    'self_interaction_1': 'self_interaction_1',
    'self_interaction_2': 'self_interaction_2',
    'output': 'reduce_input_to_hidden',
}
# The layers that only the whole model holds, not a segment of a parallel one
WHOLE_MODEL = ('onehot_idx_to_onehot', 'force_output')


def patch_fidelity(layers: OrderedDict, config: dict[str, Any]) -> OrderedDict:
    """Replace each host layer at a selected site by a FidelityLinear.

    Nothing changes where the configuration has no fidelity, or a single one, which
    is the plain host model.

    Args:
        layers: Not yet instantiated; all, or one segment of a parallel model.
        config: The host's model configuration.

    Raises:
        HostError: A whole model lacks a site.
    """
    fidelity = config.get(keys.FIDELITY_MODEL)
    if not fidelity or not config.get('use_modality', False):
        return layers
    patched = OrderedDict(layers)
    for site in fidelity['sites']:
        names = [
            name
            for name, layer in layers.items()
            if site_of(name) == site and isinstance(layer, IrrepsLinear)
        ]
        if not names and all(name in layers for name in WHOLE_MODEL):
            raise HostError(
                f'the model has no layer {SITE_LAYER[site]!r} for the site {site!r} '
                'of model.fidelity.sites'
            )
        for name in names:
            n = config['_number_of_modalities']
            patched[name] = at_site(layers[name], n, fidelity)
    return patched


def site_of(name: str) -> str | None:
    """Return the site of the host layer with that name, or None."""
    found = [s for s, ending in SITE_LAYER.items() if name.endswith(ending)]
    return found[0] if found else None


def check_kept(ours: Mapping[str, nn.Module], built: Mapping[str, Any]) -> None:
    """Refuse an accelerator that replaced a FidelityLinear.

    Args:
        ours: Layers as `patch_fidelity` returned them.
        built: What the host made of them for an accelerator, which in SevenNet 0.13
            replaces convolutions only.

    Raises:
        HostError: A FidelityLinear of `ours` is not in `built` as it was.
    """
    for name, layer in ours.items():
        if isinstance(layer, FidelityLinear) and (
            built.get(name) is not layer or layer.linear_cls is not Linear
        ):
            raise HostError(
                f'the accelerator replaces {name}, whose weights per fidelity would '
                'be lost. Do not use it.'
            )


def at_site(
    layer: IrrepsLinear, n_fidelities: int, fidelity: dict[str, Any]
) -> FidelityLinear:
    """Return a layer, not yet instantiated, with the shape of a given one."""
    return fidelity_linear(
        fidelity['encoding'],
        fidelity['rank'],
        irreps_in=layer.irreps_in,
        irreps_out=layer.irreps_out,
        data_key_in=layer.key_input,
        data_key_out=layer.key_output,
        data_key_modal_attr=layer.key_modal_attr,
        num_modalities=n_fidelities,
        **layer.linear_kwargs,
    )


def fidelity_layers(model: nn.Module) -> list[FidelityLinear]:
    """Return the layers of `model` that own weights per fidelity, in order."""
    return [m for m in model.modules() if isinstance(m, FidelityLinear)]


def theta_of(model: nn.Module, fidelity: int) -> list[nn.Parameter]:
    """Return every Parameter that a fidelity owns: its theta_T."""
    return [p for layer in fidelity_layers(model) for p in layer.theta(fidelity)]


def train_only(model: nn.Module, fidelities: Iterable[int]) -> None:
    """Freeze every weight except those that these fidelities own."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for fidelity in fidelities:
        for parameter in theta_of(model, fidelity):
            parameter.requires_grad_(True)


def drop_absent_gradients(model: nn.Module, present: list[bool]) -> None:
    """Remove the gradients of fidelities that are not `present` in a batch.

    They are zero, but Adam moves a weight whose gradient is zero and leaves one
    alone whose gradient is None.
    """
    for fidelity, is_present in enumerate(present):
        if not is_present:
            for parameter in theta_of(model, fidelity):
                parameter.grad = None


@contextmanager
def common_potential(model: nn.Module) -> Iterator[None]:
    """Within, `model` is the common potential: every theta_T counts as zero."""
    layers = fidelity_layers(model)
    before = [layer.use_theta for layer in layers]
    for layer in layers:
        layer.use_theta = False
    try:
        yield
    finally:
        for layer, use_theta in zip(layers, before, strict=True):
            layer.use_theta = use_theta


def carry_theta(
    source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Split a state dict into what the host's backend conversion knows, and ours.

    The host asserts that it knows each name, and silently drops `linear.bias`;
    linear layers are the same in every backend, so both are carried over as they
    are. The constants of a convolution are left out: `target` has its own, and the
    host knows the names of some versions only.

    Args:
        source: The state dict to convert.
        target: That of the new model.

    Returns:
        What the host may see, and what to put into its result.

    Raises:
        HostError: `target` lacks an entry of ours.
    """
    marks = ('.gain.', '.lora_a.', '.lora_b.', '.lora_down.', '.lora_up.')
    ours = {
        name: value
        for name, value in source.items()
        if any(mark in name for mark in marks) or is_bias(name, value)
    }
    for name, value in ours.items():
        if name not in target or target[name].shape != value.shape:
            raise HostError(f'the converted model has no place for {name}')
    rest = {
        name: value
        for name, value in source.items()
        if name not in ours and not CONVOLUTION_CONSTANT.match(name)
    }
    return rest, ours


def is_bias(name: str, value: torch.Tensor) -> bool:
    """Whether an entry of a state dict is one that the host's conversion drops."""
    return name.endswith('.linear.bias') and value.numel() > 0
