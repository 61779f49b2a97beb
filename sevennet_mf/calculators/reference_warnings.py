"""What users should know about a fidelity's reference energies before using them."""

from __future__ import annotations

from collections.abc import Sequence

from ase.data import chemical_symbols

from sevennet_mf import keys
from sevennet_mf.arrays import Floats
from sevennet_mf.model.load import LoadedModel
from sevennet_mf.model.shift import reference_energies


def doubtful(loaded: LoadedModel, fidelity: str) -> dict[str, str]:
    """Return a line of warning by symbol for each doubtful element of a fidelity."""
    folded = (loaded.provenance.get(keys.FOLDED) or {}).get('doubtful') or {}
    open_ones = _undetermined(loaded, fidelity)
    return {
        **folded,
        **_zero(loaded, fidelity),
        **{symbol: _open_line(fidelity, [symbol]) for symbol in open_ones},
    }


def reference_doubts(loaded: LoadedModel) -> dict[str, list[str]]:
    """Return lines of warning by fidelity; no entry for one without doubts.

    An energy of 0 at one fidelity only is what SevenNet writes for an element that
    no label of that fidelity contained, such as Yb in 7net-mf-0; this package itself
    records which elements are not determined, and which fidelity is a difference.
    """
    found: dict[str, list[str]] = {}
    for name in loaded.fidelities:
        lines = [line for n, line in loaded.differences.items() if n == name]
        lines += _zero(loaded, name).values()
        open_ones = _undetermined(loaded, name)
        if open_ones:
            lines.append(_open_line(name, open_ones))
        if lines:
            found[name] = lines
    return found


def _undetermined(loaded: LoadedModel, fidelity: str) -> list[str]:
    """Symbols of the elements that training says it could not determine."""
    origin = loaded.provenance.get('reference_energies') or {}
    return [
        symbol
        for symbol, known in (origin.get(fidelity) or {}).items()
        if known.get('determined') is False
    ]


def _open_line(fidelity: str, symbols: Sequence[str]) -> str:
    return (
        f'{fidelity}: not determined for {", ".join(symbols)}; no label of this '
        'fidelity contains them, and energies of structures with them may be wrong '
        'by several eV.'
    )


def _zero(loaded: LoadedModel, fidelity: str) -> dict[str, str]:
    """A line by symbol for each element that is 0 at this fidelity only."""
    energies = reference_energies(loaded.model)
    row = loaded.fidelities.index(fidelity)
    lines = {
        chemical_symbols[z]: _zero_here(z, row, energies, loaded.fidelities)
        for z in sorted(loaded.type_map)
    }
    return {symbol: line for symbol, line in lines.items() if line}


def _zero_here(z: int, row: int, energies: Floats, names: Sequence[str]) -> str:
    """The line for an element that is 0 at `row` and not everywhere; '' if not."""
    rest = [i for i in range(len(names)) if energies[i, z] != 0.0]
    if row in rest or not rest:
        return ''
    others = ', '.join(f'{energies[i, z]:.2f} eV at {names[i]}' for i in rest)
    symbol = chemical_symbols[z]
    return (
        f'{symbol}: its reference energy is 0 at {names[row]} but {others}. No '
        f'label of {names[row]} contained {symbol}; energies of structures with it '
        'are wrong by several eV there.'
    )
