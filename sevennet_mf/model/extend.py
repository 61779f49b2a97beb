"""Add fidelities to any SevenNet model: existing ones predict what they did.

A new fidelity starts as a copy of an existing one, weight by weight; in a model of
one fidelity, as a copy of the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sevenn
import sevenn._keys as KEY
import torch
from sevenn.nn.linear import IrrepsLinear
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf import keys
from sevennet_mf.errors import UserError
from sevennet_mf.model.build import at_site, site_of
from sevennet_mf.model.encodings import LoraLinear
from sevennet_mf.model.fold import with_fidelities
from sevennet_mf.model.linear import FidelityLinear
from sevennet_mf.model.plain_config import RESCALE

SITES_KEY = 'model.fidelity.sites'

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ExtensionPlan:
    """What a model becomes.

    Attributes:
        old: Names of its fidelities, by their index in it.
        added: Names of the new ones.
        source: The old fidelity that the new ones start from.
        fidelity: As `model.fidelity` of the YAML, with encoding, rank, sites and
            scale.
    """

    old: tuple[str, ...]
    added: tuple[str, ...]
    source: str
    fidelity: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, by their index in the extended model."""
        return (*self.old, *self.added)

    @property
    def origin(self) -> list[int]:
        """For each of `names`, the index of the old fidelity it starts from."""
        start = self.old.index(self.source)
        return [*range(len(self.old)), *[start] * len(self.added)]


def extended_config(config: dict[str, Any], plan: ExtensionPlan) -> dict[str, Any]:
    """Return the host's configuration of the extended model.

    It lacks shift and scale.

    Args:
        config: Of the model, as the host's loader returns it, with defaults filled
            in.
        plan: What the model becomes.

    Raises:
        UserError: The model cannot be extended as planned.
    """
    check(config, plan)
    own_scale = plan.fidelity['scale'] == 'per_fidelity'
    return {
        **config,
        **{
            switch: site in plan.fidelity['sites']
            for site, switch in keys.SITE_SWITCH.items()
        },
        KEY.USE_MODALITY: True,
        KEY.NUM_MODALITIES: len(plan.names),
        KEY.MODAL_MAP: {name: i for i, name in enumerate(plan.names)},
        KEY.USE_MODAL_WISE_SHIFT: True,
        KEY.USE_MODAL_WISE_SCALE: own_scale,
        keys.FIDELITY_MODEL: dict(plan.fidelity),
        # the weights below are in the order of this version
        'version': sevenn.__version__,
    }


def check(config: dict[str, Any], plan: ExtensionPlan) -> None:
    """Refuse a plan that would lose weights of the model.

    Args:
        config: The host's, of the model that is to be extended.
        plan: What the model becomes.

    Raises:
        UserError: Sites, encoding, rank or scale of the plan cannot hold what the
            model has.
    """
    sites = plan.fidelity['sites']
    if config.get(KEY.READOUT_AS_FCN) and 'output' in sites:
        raise UserError(
            ": 'output' needs the linear readout, and this model has "
            'readout_as_fcn. Take it out of the sites.',
            SITES_KEY,
        )
    if not config.get(KEY.USE_MODALITY):
        return
    has = [s for s, switch in keys.SITE_SWITCH.items() if config.get(switch)]
    lost = [site for site in has if site not in sites]
    if lost:
        raise UserError(
            f'lacks {lost}, where {list(plan.old)} have their own weights. Add '
            f'them, or leave sites out to get {has}.',
            SITES_KEY,
        )
    theirs = (config.get(keys.FIDELITY_MODEL) or {}).get('encoding', 'bias')
    ours = plan.fidelity['encoding']
    if theirs not in ('bias', ours):
        raise UserError(
            f': {ours!r} cannot hold the weights of {list(plan.old)}, which are '
            f'{theirs!r}. Leave it out.',
            'model.fidelity.encoding',
        )
    rank = (config.get(keys.FIDELITY_MODEL) or {}).get('rank')
    if ours == theirs == 'lora' and rank != plan.fidelity['rank']:
        raise UserError(
            f': {plan.fidelity["rank"]}, but {list(plan.old)} have rank {rank}. '
            'Leave it out.',
            'model.fidelity.rank',
        )
    if config.get(KEY.USE_MODAL_WISE_SCALE) and plan.fidelity['scale'] == 'shared':
        raise UserError(
            f": 'shared', but each of {list(plan.old)} has its own. Leave it out.",
            'model.fidelity.scale',
        )


@torch.no_grad()
def extend(model: AtomGraphSequential, plan: ExtensionPlan) -> State:
    """Return the state dict of the extended model; `model` stays as it was.

    Old fidelities predict what they did except for rounding: products are formed in
    float64 and rounded once. The new ones predict what their source does, including
    its reference energies.

    Args:
        model: Built by the host's loader: plain, multi-modal or ours, on the CPU.
        plan: What it becomes; `check` must have accepted it.
    """
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name, layer in model.named_children():
        site = site_of(name) if isinstance(layer, IrrepsLinear) else None
        if site in plan.fidelity['sites']:
            own = extended_layer(layer, plan).state_dict()
            state = {k: v for k, v in state.items() if not k.startswith(f'{name}.')}
            state.update({f'{name}.{k}': v.clone() for k, v in own.items()})
    n_species = len(model.type_map or ())
    shift = by_fidelity(state[f'{RESCALE}.shift'], n_species, len(plan.old))
    state[f'{RESCALE}.shift'] = shift[plan.origin].clone()
    scale = state[f'{RESCALE}.scale']
    if plan.fidelity['scale'] == 'per_fidelity':
        scale = by_fidelity(scale, n_species, len(plan.old))[plan.origin]
    elif scale.numel() == 1:  # the host has one for each element here
        scale = scale.expand(n_species)
    state[f'{RESCALE}.scale'] = scale.clone()
    return state


def set_references(
    state: State, type_map: Mapping[int, int], index: int, energies: np.ndarray
) -> None:
    """Set the reference energies of one fidelity in an extended state dict.

    The other rows stay as they are to the last bit.

    Args:
        state: The state dict, changed in place.
        type_map: Atomic number -> index of the element.
        index: Of the fidelity.
        energies: (119,) eV, by atomic number.
    """
    shift = state[f'{RESCALE}.shift']
    for z, column in type_map.items():
        shift[index, column] = float(energies[z])


def by_fidelity(values: torch.Tensor, n_species: int, n: int) -> torch.Tensor:
    """Return shift or scale, in any shape the host gives it, as (n, n_species)."""
    return values.expand(n, n_species)


def extended_layer(layer: IrrepsLinear, plan: ExtensionPlan) -> FidelityLinear:
    """Return the layer of one site with weights for all fidelities of a plan."""
    old = layer
    if not isinstance(layer, FidelityLinear) and layer.num_modalities > 1:
        old = with_fidelities(layer)
    new = at_site(old, len(plan.names), plan.fidelity)
    new.instantiate()
    _set_shared(new, old)
    if isinstance(old, FidelityLinear):
        for index, source in enumerate(plan.origin):
            _set_theta(new, index, old, source)
    return new


def _set_shared(new: FidelityLinear, old: IrrepsLinear) -> None:
    """Set W and the common bias. W is multiplied by a factor that depends on the
    number of fidelities, as in the host (model/linear.py)."""
    if isinstance(old, FidelityLinear):
        weight, bias = old.folded_weight(None), old.common_bias
    else:
        assert old.linear is not None
        weight, bias = old.linear.weight.double(), old.linear.bias
    # without a 0e input the factor is 0, and there are no such weights
    scale = new.weight_scale.double()
    new.weight.copy_(torch.where(scale > 0, weight / scale, weight))
    new.common_bias.copy_(bias)


def _set_theta(
    new: FidelityLinear, index: int, old: FidelityLinear, source: int
) -> None:
    """Set theta_T of fidelity `index` to that of `source` in the old layer."""
    bias = old.bias[source].double() * old.bias_scale
    new.bias[index].copy_(bias / new.bias_scale)
    if new.encoding == old.encoding:  # from `bias` the rest starts as it is: at zero
        own, theirs = new.theta(index)[1:], old.theta(source)[1:]
        for to, value in zip(own, theirs, strict=True):
            to.copy_(value)
        if isinstance(new, LoraLinear):
            assert isinstance(old, LoraLinear)
            assert old.rank == new.rank
