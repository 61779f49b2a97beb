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

    Attributes:
        name: Of the fidelity, or `common`.
        index: Of the fidelity in the model; None for the common potential.
        references: The fidelity whose reference energies (and scale) are added; for
            a fidelity, itself.
        references_index: The index of that fidelity.
    """

    name: str
    index: int | None
    references: str
    references_index: int


def chosen(
    fidelities: Sequence[str], name: str | None, references: str | None = None
) -> FoldChoice:
    """Return the fidelity, or common potential, that a user means by a name.

    Args:
        fidelities: Names by their index in the model.
        name: One of them; `common`; or None, for a model of one fidelity only.
        references: Whose reference energies the common potential gets. With it,
            `common` is the common potential even in a SevenNet file with a modality
            of that name; without it, that modality.

    Raises:
        UserError: There is no such fidelity, or the two names do not go together.
    """
    known = list(fidelities)
    several = len(known) > 1
    if name is None:
        if several:
            raise UserError(
                f'is missing: the model has {known}. Select one (--fidelity), or '
                f'{COMMON!r} with --references for what they share.',
                'fidelity',
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

    Every linear layer of the result has biases, zero where unused. Exact except for
    rounding: docs/design.md, "The layer". The result consists of builtins, and
    tensors on the CPU.

    Args:
        model: Built from `config` by the host's loader, so that weights of an old
            file are in today's order. It may be ours, SevenNet's own multi-modal
            one, or a plain one, which folds to itself. It is left as it was.
        config: The host's configuration.
        choice: What to fold to.
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
    """Return the plain layer, with biases, that is equal to a layer at one fidelity.

    Args:
        layer: Any linear layer.
        fidelity: Its index, or None for the common potential.
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
    """Within, `model` is the common potential, also in the host's own layers.

    `common_potential` handles this package's layers only. The reference energies
    stay those of the fidelity that a graph names.
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
