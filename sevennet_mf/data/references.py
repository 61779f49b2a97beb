"""Reference energies: the energy of one atom of each element at each fidelity.

Total energies of two methods differ by eV per atom, and differently for each
element. The estimator is described in docs/design.md, "Reference energies". With x
the composition fractions of a structure, the base is fitted to energies per atom,
and every other fidelity f as e_f = e_base + c + u to its *differences* from the
base: the offset c is free and u is drawn towards zero, so what the labels of f do
not determine is taken from the base. Everything is float64 and numpy; each structure
is read once and leaves only sums over pairs of elements behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from sevennet_mf.arrays import N_SPECIES, Bools, Floats, Ints
from sevennet_mf.data.estimator import (
    DETERMINED_BELOW,
    NormalEquations,
    ReferenceFit,
    fit_aligned,
    fit_alone,
)
from sevennet_mf.data.labelled_energies import (
    BaseLabels,
    Labels,
    LabelSource,
    differences,
)
from sevennet_mf.errors import UserError, nearest, unknown

__all__ = ['Labels', 'LabelSource']  # what is fitted to

METHODS: Final[tuple[str, ...]] = ('aligned', 'independent')
# what the `*` of `as_text` means
IN_COMPOUNDS: Final[str] = (
    '* known only in compounds: labels determine sums over compositions'
)
_LARGEST: Final[float] = float(np.finfo(np.float32).max)

Numbers: TypeAlias = Mapping[str, Mapping[str, float]]  # {fidelity: {symbol: eV}}


def with_isolated(
    method: str | Numbers, isolated: Numbers
) -> str | dict[str, dict[str, float]]:
    """Return a method, as for fit_references, with energies of isolated atoms added.

    Args:
        method: its numbers take precedence; `independent`, which fits all energies,
            is returned unchanged.
        isolated: {fidelity: {symbol: eV}} of the data.
    """
    if isinstance(method, str) and (not isolated or method != METHODS[0]):
        return method
    given = {} if isinstance(method, str) else method
    names = {**isolated, **given}
    return {
        name: {**isolated.get(name, {}), **given.get(name, {})} for name in names
    }


def _number(symbol: str, key: str) -> int:
    if symbol not in atomic_numbers or symbol == chemical_symbols[0]:
        hint = nearest(symbol, chemical_symbols[1:])
        raise UserError(
            f'{key}: {symbol!r} is no chemical symbol.{hint} '
            "Write elements as 'Ga' or 'N'."
        )
    return int(atomic_numbers[symbol])


def _given(method: str | Numbers, fidelities: Sequence[str]) -> dict[str, Floats]:
    """Return per fidelity (119,) explicit energies, NaN where there is none."""
    key = 'data.fidelity.reference_energies'
    given = {name: np.full(N_SPECIES, np.nan) for name in fidelities}
    if isinstance(method, str):
        if method not in METHODS:
            remedy = 'Or give numbers: {fidelity: {symbol: eV}}.'
            raise unknown(key, method, METHODS, remedy)
        return given
    for name, numbers in method.items():
        if name not in given:
            raise unknown(key, name, fidelities)
        for symbol, value in numbers.items():
            z = _number(symbol, f'{key}.{name}')
            real = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (real and abs(value) < _LARGEST):
                raise UserError(
                    f'{key}.{name}.{symbol} must be a finite number of eV, '
                    f'got {value!r}.'
                )
            given[name][z] = value
    return given


@dataclass(frozen=True, eq=False)
class References:
    """Reference energies of every fidelity, and how well they are known.

    Attributes:
        fidelities: the F names, in the order of the rows below.
        base: one of them.
        elements: symbols the model must know.
        energies: (F, 119) float64 in eV, every one of them a float32 number.
        fitted: (F, 119) float64 in eV, before that rounding.
        std: (F, 119) in eV, one standard deviation; 0 for a given number, inf where
            the element is not determined. Large for an element that occurs in only
            one stoichiometry: labels determine compositions, see `std_of`.
        undetermined: for each fidelity, the `elements` that no label and no number
            determines.
        scatter: for each fidelity, the estimated sigmas in eV/atom, by name.
    """

    fidelities: tuple[str, ...]
    base: str
    elements: tuple[str, ...]
    energies: Floats
    fitted: Floats
    std: Floats
    undetermined: dict[str, tuple[str, ...]]
    scatter: dict[str, dict[str, float]]
    _fits: tuple[ReferenceFit, ...]

    def index(self, fidelity: str) -> int:
        """Return the row of a fidelity.

        Raises:
            UserError: There is none.
        """
        if fidelity not in self.fidelities:
            raise unknown('fidelity', fidelity, self.fidelities)
        return self.fidelities.index(fidelity)

    def reference_part(
        self, composition: Ints, fidelity_index: int | Ints
    ) -> Floats:
        """Return (n,) float64 in eV: the atoms' reference energies summed.

        Args:
            composition: (n, 119).
            fidelity_index: one row, or (n,) rows.
        """
        rows = np.broadcast_to(np.asarray(fidelity_index), len(composition))
        part = np.empty(len(composition))
        for row in np.unique(rows):
            part[rows == row] = composition[rows == row] @ self.energies[row]
        return part

    def std_of(self, composition: Ints, fidelity: str) -> Floats:
        """Return (n,) in eV/atom: one standard deviation of the reference part.

        It is that of the posterior of (c, u) under the prior width; the base and
        independent fits have no c. Given numbers count as exact.

        Args:
            composition: (n, 119).
        """
        fractions = composition / composition.sum(axis=1, keepdims=True)
        return self._fits[self.index(fidelity)].posterior.std(fractions)

    def determined(self, composition: Ints, fidelity: str) -> Bools:
        """Return (n,) bool, whether labels or numbers determine the reference part.

        See Support.tells.

        Args:
            composition: (n, 119).
        """
        return self._fits[self.index(fidelity)].support.tells(composition)

    def as_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return {fidelity: {symbol: energy, std, determined}} for provenance.

        Values are plain builtins. Energies and std are in eV; std is None if not
        determined.
        """
        report: dict[str, dict[str, dict[str, Any]]] = {}
        for row, name in enumerate(self.fidelities):
            report[name] = {}
            for symbol in self.elements:
                z = atomic_numbers[symbol]
                known = symbol not in self.undetermined[name]
                report[name][symbol] = {
                    'energy': float(self.energies[row, z]),
                    'std': float(self.std[row, z]) if known else None,
                    'determined': known,
                }
        return report


def as_text(value: Mapping[str, Any]) -> str:
    """Return one entry of `References.as_dict` for a table, in eV."""
    if not value['determined']:
        return 'not determined'
    alone = value['std'] <= DETERMINED_BELOW
    return f'{value["energy"]:.3f}' + (f' ± {value["std"]:.3f}' if alone else ' *')


def fit_references(
    labels: Mapping[str, LabelSource],
    base: str,
    elements: Sequence[str],
    method: str | Numbers = 'aligned',
) -> References:
    """Estimate the reference energies of every fidelity in `labels`.

    An element absent from all data gets the base's mean energy per atom, plus the
    offset c at an aligned fidelity: the value that leaves a reaction energy as at
    the base. Such an element is reported as not determined. See docs/design.md,
    "Reference energies".

    Args:
        labels: for each fidelity its `Labels`, or any iterable of chunks of them,
            read once; the order of the names is that of the result's rows. Memory
            grows by two numbers for each structure of the base, which pairs refer
            to.
        base: the fidelity the others are compared with.
        elements: chemical symbols the model must know.
        method: 'aligned', 'independent' (each fidelity is fitted like the base), or
            explicit numbers {fidelity: {symbol: eV}}, which are kept; the rest is
            aligned.

    Raises:
        UserError: A name or symbol is unknown, a number is not finite, or a fidelity
            has neither a label nor a number.
    """
    names = tuple(labels)
    if base not in names:
        raise unknown('data.fidelity.base', base, names)
    given = _given(method, names)
    symbols = [(s, _number(s, 'elements')) for s in elements]
    below = BaseLabels(labels[base])
    _require(base, below.sums.count, given[base])
    fits = {base: fit_alone(below.sums, given[base])}
    for name in names:
        if name == base:
            continue
        if method == 'independent':
            sums = BaseLabels(labels[name]).sums
            _require(name, sums.count, given[name])
            fits[name] = fit_alone(sums, given[name])
        else:
            parts = differences(labels[name], below, fits[base].energies, name)
            _require(name, sum(p.count for p in parts.values()), given[name])
            fits[name] = fit_aligned(parts, fits[base], given[name])
    return _collect(names, base, symbols, fits)


def fit_to_model(
    fidelity: str,
    labels: LabelSource,
    energies: Floats,
    elements: Sequence[str],
    numbers: Mapping[str, float] | None = None,
) -> References:
    """Estimate one fidelity's references with a trained model in place of the base.

    An element without a label keeps the model's energy plus the common offset, and
    is reported as not determined.

    Args:
        labels: with `model_energy`, the model's predictions.
        energies: (119,) float64 in eV, the model's own reference energies, which its
            predictions include.
        elements: chemical symbols the model must know.
        numbers: explicit energies in eV, which are kept.

    Returns:
        References with this one fidelity.

    Raises:
        UserError: There is neither a label nor a number.
    """
    given = _given({fidelity: numbers or {}}, (fidelity,))[fidelity]
    symbols = [(s, _number(s, 'elements')) for s in elements]
    free = np.full(N_SPECIES, np.nan)
    model = replace(fit_alone(NormalEquations(), free), energies=energies)
    parts = differences(labels, BaseLabels([]), energies, fidelity)
    _require(fidelity, sum(p.count for p in parts.values()), given)
    fits = {fidelity: fit_aligned(parts, model, given)}
    return _collect((fidelity,), fidelity, symbols, fits)


def _require(fidelity: str, count: int, given: Floats) -> None:
    if count == 0 and np.isnan(given).all():
        raise UserError(
            f'fidelity {fidelity!r} has no labelled structure to fit '
            'reference energies to; add data, or numbers under '
            'data.fidelity.reference_energies.'
        )


def _collect(
    names: tuple[str, ...],
    base: str,
    symbols: Sequence[tuple[str, int]],
    fits: Mapping[str, ReferenceFit],
) -> References:
    fitted = np.stack([fits[name].energies for name in names])
    # A checkpoint stores its shifts as float32. What is subtracted from the labels
    # must be what the model later adds, so the rounding happens here, once; it moves
    # nothing but the split between reference and network.
    energies = fitted.astype(np.float32).astype(np.float64)
    assert np.isfinite(energies).all()
    std = np.stack([fits[name].posterior.std(np.eye(N_SPECIES)) for name in names])
    supports = [fits[name].support for name in names]
    known = np.stack([support.seen | support.given for support in supports])
    undetermined = {
        name: tuple(s for s, z in symbols if not known[row, z])
        for row, name in enumerate(names)
    }
    return References(
        fidelities=names,
        base=base,
        elements=tuple(s for s, _ in symbols),
        energies=energies,
        fitted=fitted,
        std=np.where(known, std, np.inf),
        undetermined=undetermined,
        scatter={name: dict(fits[name].scatter) for name in names},
        _fits=tuple(fits[name] for name in names),
    )
