"""What a user should know of a fidelity's reference energies before he uses them."""

from __future__ import annotations

from collections.abc import Sequence

from ase.data import chemical_symbols

from sevennet_mf import keys
from sevennet_mf.data.estimator import Floats
from sevennet_mf.train.load import LoadedModel
from sevennet_mf.train.predict import reference_energies


def doubtful(loaded: LoadedModel, fidelity: str) -> dict[str, str]:
    """Return a line of warning by symbol for each element in doubt at a fidelity."""
    origin = loaded.provenance
    folded = (origin.get(keys.FOLDED) or {}).get('doubtful') or {}
    energies = reference_energies(loaded.model)
    row = loaded.fidelities.index(fidelity)
    found = dict(folded)
    known = (origin.get('reference_energies') or {}).get(fidelity) or {}
    for z in sorted(loaded.type_map):
        symbol = chemical_symbols[z]
        line = _zero_here(z, row, energies, loaded.fidelities)
        if known.get(symbol, {}).get('determined') is False:
            line = _undetermined(fidelity, [symbol])
        if line:
            found[symbol] = line
    return found


def _undetermined(fidelity: str, symbols: Sequence[str]) -> str:
    return (
        f'{fidelity}: not determined for {", ".join(symbols)}; no label of this '
        'fidelity holds them, and energies of such structures may be off by eV.'
    )


def reference_doubts(loaded: LoadedModel) -> dict[str, list[str]]:
    """Return lines of warning by fidelity; no entry for one without doubts.

    An energy of 0 at one fidelity only is what SevenNet writes for an element that
    no label of that fidelity held, as Yb in 7net-mf-0; this package says itself
    which elements are not determined.
    """
    energies = reference_energies(loaded.model)
    origin = loaded.provenance.get('reference_energies') or {}
    found: dict[str, list[str]] = {}
    for row, name in enumerate(loaded.fidelities):
        lines = [
            _zero_here(z, row, energies, loaded.fidelities)
            for z in sorted(loaded.type_map)
        ]
        undetermined = [
            symbol
            for symbol, known in (origin.get(name) or {}).items()
            if known.get('determined') is False
        ]
        if undetermined:
            lines.append(_undetermined(name, undetermined))
        if any(lines):
            found[name] = [line for line in lines if line]
    return found


def _zero_here(z: int, row: int, energies: Floats, names: Sequence[str]) -> str:
    """The line for an element that is 0 at `row` and not everywhere; '' if not."""
    rest = [i for i in range(len(names)) if energies[i, z] != 0.0]
    if row in rest or not rest:
        return ''
    others = ', '.join(f'{energies[i, z]:.2f} eV at {names[i]}' for i in rest)
    symbol = chemical_symbols[z]
    return (
        f'{symbol}: its reference energy is 0 at {names[row]} but {others}. No '
        f'label of {names[row]} held {symbol}; energies of structures with it are '
        'off by eV there.'
    )
