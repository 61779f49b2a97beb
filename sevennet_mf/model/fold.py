"""From a model of several fidelities to the plain SevenNet model of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from sevenn.nn.linear import IrrepsLinear
from sevenn.nn.scale import ModalWiseRescale
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf.errors import UserError, unknown
from sevennet_mf.model.build import common_potential
from sevennet_mf.model.linear import FidelityLinear, with_biases
from sevennet_mf.model.plain_config import plain_config

COMMON: Final[str] = 'common'  # the potential with theta_T = 0


@dataclass(frozen=True)
class FoldChoice:
    """One fidelity of a model, or its common potential.

    name: of the fidelity, or 'common'; index: of the fidelity in the model, None
    for the common potential; references, references_index: the fidelity whose
    reference energies (and scale) are added, for a fidelity its own.
    """

    name: str
    index: int | None
    references: str
    references_index: int


def chosen(
    fidelities: Sequence[str], name: str | None, references: str | None = None
) -> FoldChoice:
    """Return what a user means by a fidelity's name.

    fidelities: names by their index in the model. name: one of them, 'common', or
    None, which only a model of one fidelity allows. references: whose reference
    energies the common potential gets, and only that: with it, 'common' is the
    common potential even of a SevenNet file with a modality of that name, and
    without it that modality. Raises UserError for anything else.
    """
    known = list(fidelities)
    several = len(known) > 1
    if name is None:
        if several:
            raise UserError(
                f'fidelity is missing: the model has {known}. Name one '
                f'(--fidelity), or {COMMON!r} with --references for what they share.'
            )
        name = known[0]
    if name == COMMON and several and (references is not None or name not in known):
        if references is None:
            raise UserError(
                f'fidelity {COMMON!r} has no reference energies of its own: give '
                f'--references, one of {known}.'
            )
        if references not in known:
            raise unknown('references', references, known)
        return FoldChoice(COMMON, None, references, known.index(references))
    if name not in known:
        offered = [*known, COMMON] if several else known
        remedy = '' if several else 'The model has no other: leave it out.'
        raise unknown('fidelity', name, offered, remedy)
    if references not in (None, name):
        raise UserError(
            f'references {references!r} goes with fidelity {COMMON!r} only; '
            f'{name!r} has its own reference energies. Leave references out.'
        )
    return FoldChoice(name, known.index(name), name, known.index(name))


def fold(
    model: AtomGraphSequential, config: dict[str, Any], choice: FoldChoice
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return (configuration, state dict) of the plain model for a choice.

    model: built from `config` by the host's loader, so that weights of an old
    file are in today's order; ours or SevenNet's own multi-modal one, or a plain
    one, which folds to itself. It is left as it was. Every linear layer of the
    result has biases, zero where unused. Exact but for rounding: docs/design.md,
    "The layer". All in the result are builtins and tensors on the CPU.
    """
    state = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    for name, layer in model.named_children():
        if isinstance(layer, IrrepsLinear):
            plain = plain_linear(layer, choice.index).state_dict()
            state = {k: v for k, v in state.items() if not k.startswith(f'{name}.')}
            state.update({f'{name}.{k}': v.cpu().clone() for k, v in plain.items()})
        elif isinstance(layer, ModalWiseRescale):
            for key in ('shift', 'scale'):
                value = state[f'{name}.{key}']
                if value.ndim > 1:  # (n_fidelities, n_species) -> (n_species, )
                    value = value[choice.references_index].clone()
                state[f'{name}.{key}'] = value
    return plain_config(config, state), state


def plain_linear(layer: IrrepsLinear, fidelity: int | None) -> IrrepsLinear:
    """Return the plain layer with biases that any linear layer is for a fidelity.

    fidelity: its index, or None for the common potential.
    """
    if isinstance(layer, FidelityLinear):
        return layer.fold(fidelity)
    if layer.num_modalities > 1:
        return with_fidelities(layer).fold(fidelity)
    assert layer.linear is not None
    plain = with_biases(layer).to(layer.linear.weight)
    assert plain.linear is not None
    with torch.no_grad():
        plain.linear.weight.copy_(layer.linear.weight)
        if layer.linear.bias.numel():
            plain.linear.bias.copy_(layer.linear.bias)
    return plain


def with_fidelities(layer: IrrepsLinear) -> FidelityLinear:
    """Return the host's multi-modal layer as ours, with the same weights."""
    assert layer.linear is not None
    ours = FidelityLinear(
        layer._irreps_in_wo_modal,
        layer.irreps_out,
        layer.key_input,
        layer.key_output,
        layer.key_modal_attr,
        layer.num_modalities,
        lazy_layer_instantiate=False,
        **layer.linear_kwargs,
    ).to(layer.linear.weight)
    ours.load_state_dict(layer.state_dict(), strict=True)
    return ours


@contextmanager
def without_theta(model: AtomGraphSequential) -> Iterator[None]:
    """Within, `model` is the common potential; the host's own layers included.

    As `common_potential`, which knows this package's layers only. The reference
    energies stay those of the fidelity a graph names.
    """
    rows = [
        layer.linear.weight.detach()[-layer.num_modalities * n_scalar :]
        for layer in model.children()
        if isinstance(layer, IrrepsLinear)
        and not isinstance(layer, FidelityLinear)
        and layer.num_modalities > 1
        and (n_scalar := layer.irreps_out.count('0e')) > 0
    ]  # the one-hot modality is the last input: host_weight.py
    before = [row.clone() for row in rows]
    for row in rows:
        row.zero_()
    try:
        with common_potential(model):
            yield
    finally:
        for row, old in zip(rows, before, strict=True):
            row.copy_(old)
