"""Energy-linear mixtures of fidelities: E = sum_f w_f E_f."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sevennet_mf.calculators.evaluator import Properties
from sevennet_mf.calculators.results import Results
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.model.load import UNNAMED

TOLERANCE = 1e-6  # of the sum of the weights


def refuse_others(others: Mapping[str, object]) -> None:
    """Raise TypeError for keyword arguments that a calculator does not have."""
    for name, value in others.items():
        hint = ''
        if name in ('modal', 'modality'):  # what SevenNet calls it
            hint = f' Use fidelity={value!r}: a modality is called a fidelity here.'
        raise TypeError(f'there is no argument {name!r}.{hint}')


def weights_of(
    fidelity: str | Mapping[str, float] | None, known: Sequence[str]
) -> dict[str, float]:
    """Return the weight of each fidelity that is named, in the order of naming.

    Args:
        fidelity: One name; weights by name, which sum to one; or None for the only
            fidelity there is.
        known: The fidelities of the model.

    Raises:
        UserError: It is something else, or names an unknown fidelity.
    """
    if fidelity is None:
        if len(known) > 1:
            raise UserError(
                f'the model has the fidelities {list(known)}; choose one, such as '
                f'fidelity={known[0]!r}, or weights of several.'
            )
        return {known[0]: 1.0}
    if isinstance(fidelity, str):
        _check_name(fidelity, known)
        return {fidelity: 1.0}
    if not isinstance(fidelity, Mapping) or not fidelity:
        raise UserError(
            'fidelity must be a name or weights by name, such as '
            f'{{{known[0]!r}: 1.0}}, got {fidelity!r}.'
        )
    for name in fidelity:
        _check_name(name, known)
    weights = {name: _number(name, value) for name, value in fidelity.items()}
    total = math.fsum(weights.values())
    if abs(total - 1) > TOLERANCE:
        raise UserError(
            f'the weights of fidelity={dict(fidelity)} sum to {total:g}, not to 1: '
            'the energy would be meaningless. Divide each by the sum.'
        )
    return weights


def _check_name(name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    if list(known) == [UNNAMED]:
        raise UserError(
            f'the model has a single fidelity, without a name, got {name!r}. Leave '
            'fidelity out.'
        )
    remedy = ''
    if name == 'common':
        remedy = (
            'For the common potential, export it (sevennet-mf export --fidelity '
            'common --references NAME) and give that file.'
        )
    raise unknown('fidelity', name, known, remedy)


def _number(name: str, value: object) -> float:
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f'the weight of fidelity {name!r} must be a number, got {value!r}.'
        )
    return number


def mix(parts: Mapping[str, Properties], weights: Mapping[str, float]) -> Properties:
    """Return the properties of sum_f w_f E_f, and how the energy depends on w.

    Args:
        parts: Properties by fidelity.
        weights: By the same names.

    Returns:
        The properties. For several fidelities they also contain denergy_dweights,
        {name: dE/dw_f = E_f} in eV; for two also denergy_dlambda, E_second - E_first
        in eV, where lambda is the second's weight.
    """
    if len(weights) == 1:
        (name,) = weights
        return dict(parts[name])
    (first, *others) = (parts[name] for name in weights)
    values = list(weights.values())
    mixed = {
        key: sum(
            (w * part[key] for w, part in zip(values[1:], others, strict=True)),
            values[0] * first[key],
        )
        for key in first
    }
    slopes: dict[str, Any] = {
        'denergy_dweights': {name: parts[name]['energy'] for name in weights}
    }
    if len(others) == 1:
        slopes['denergy_dlambda'] = others[0]['energy'] - first['energy']
    return Results(mixed, slopes)
