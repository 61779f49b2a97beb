"""CHGNet as a teacher of two levels: `--with chgnet_levels.py:pbe` and `:r2scan`.

The default weights of CHGNet predict PBE energies to which the corrections of the
Materials Project (2020) have been added: per anion, -0.687 eV for an oxide, -0.503
for S, -0.462 for F, -0.614 for Cl, and so on. They are no part of PBE, and `pbe`
removes them. The r2SCAN weights were trained without them.

Needs `pip install chgnet`, which brings pymatgen with its table of corrections.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from ase import Atoms
from ase.calculators.calculator import all_changes
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.ase import AseAtomsAdaptor


def pbe(corrections: bool = False, **options: Any) -> Any:
    """CHGNet at PBE; with `corrections: true` as its authors trained it."""
    return _calculator('0.3.0', not corrections, options)


def r2scan(**options: Any) -> Any:
    """CHGNet at r2SCAN."""
    return _calculator('r2scan', False, options)


def _calculator(model: str, take_off: bool, options: dict[str, Any]) -> Any:
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    class Level(CHGNetCalculator):
        """CHGNet, with its energies as they come or without corrections."""

        def calculate(
            self,
            atoms: Any = None,
            properties: Any = None,
            changes: Any = all_changes,
        ) -> None:
            super().calculate(atoms, properties, changes)
            # of the totals alone: forces and stress do not depend on a constant
            if take_off:
                energy = float(self.results['energy']) - correction(self.atoms)
                self.results.update(energy=energy, free_energy=energy)

    device = options.setdefault('use_device', 'cpu')
    loaded = CHGNet.load(model_name=model, use_device=device, verbose=False)
    return Level(loaded, **options)


def correction(atoms: Atoms) -> float:
    """Return the corrections of the Materials Project (2020) of a structure, in eV.

    Raises:
        ValueError: They depend on a Hubbard U, as for oxides and fluorides of some
            transition metals, so the level of theory is another one.
    """
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    entry = ComputedStructureEntry(
        AseAtomsAdaptor.get_structure(plain),
        0.0,
        parameters={'run_type': 'GGA', 'hubbards': {}, 'is_hubbard': False},
    )
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # on oxidation states that it had to guess
        corrected = _table().process_entry(entry)
    if corrected is None:
        raise ValueError(
            f'{atoms.get_chemical_formula()}: CHGNet was trained on PBE+U here, '
            'whose corrections cannot be taken off'
        )
    return float(corrected.correction)


@cache
def _table() -> MaterialsProject2020Compatibility:
    return MaterialsProject2020Compatibility(check_potcar=False)
