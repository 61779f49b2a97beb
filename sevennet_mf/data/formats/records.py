"""A structure with its labels from a record: a dictionary of plain values.

The structure is pymatgen's dictionary, or the columns of OPTIMADE or ColabFit;
anything else in the record goes into `info` unchanged, under its own name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from ase import Atoms

from sevennet_mf.errors import UserError

STRUCTURE: Final[tuple[str, ...]] = ('structure', 'molecule')
# of OPTIMADE: lattice, elements and positions in columns
COLUMNS: Final[tuple[str, ...]] = (
    'lattice_vectors',
    'species_at_sites',
    'cartesian_site_positions',
)


# of ColabFit
CONFIGURATION: Final[tuple[str, ...]] = (
    'atomic_numbers',
    'positions',
    'cell',
    'pbc',
)


def structures(records: Iterable[Any], path: str) -> Iterator[Atoms | UserError]:
    """Yield the structure of each record; an error in place of an invalid one.

    Args:
        records: of a file; an error in place of a record is yielded as it is.
    """
    for number, record in enumerate(records):
        where = f'{path}:{number}'
        try:
            is_bad = isinstance(record, UserError)
            yield record if is_bad else to_atoms(record, where)
        except UserError as error:
            yield error
        except Exception as error:  # whatever a record may hold
            yield UserError(f'{where} is no structure: {error!r}.')


def to_atoms(record: Any, where: str) -> Atoms:
    """Return the structure of a record, with everything else in its info.

    Args:
        where: what to call the record in errors.

    Raises:
        UserError: The record has no structure, or a site has more than one element.
    """
    if not isinstance(record, Mapping):
        held = _short(record)
        raise UserError(f'{where} is not a record with a structure: {held}.')
    key = next((k for k in STRUCTURE if record.get(k) is not None), None)
    if key is not None:
        atoms = of_pymatgen(record[key], where)
        used: tuple[str, ...] = (key,)
    elif all(record.get(k) is not None for k in COLUMNS[1:]):
        atoms, used = _of_columns(record), COLUMNS
    elif all(record.get(k) is not None for k in CONFIGURATION[:2]):
        atoms, used = _of_configuration(record, where), CONFIGURATION
    else:
        raise UserError(
            f'{where} has no structure: it holds {", ".join(map(str, record))}. A '
            'record needs a pymatgen dictionary under `structure`.'
        )
    atoms.info.update({
        str(name): value for name, value in record.items() if name not in used
    })
    return atoms


def of_pymatgen(given: Any, where: str) -> Atoms:
    """Return the atoms of pymatgen's dictionary of a structure or molecule.

    Fractional coordinates, if any, determine the positions, as in pymatgen.

    Args:
        given: the dictionary, or its JSON.
    """
    structure = json.loads(given) if isinstance(given, str) else given
    if not isinstance(structure, Mapping) or 'sites' not in structure:
        raise UserError(f'{where}: its structure is not as pymatgen writes it.')
    sites, lattice = structure['sites'], structure.get('lattice')
    symbols = [_element(site, k, where) for k, site in enumerate(sites)]
    info = {}
    if structure.get('charge') is not None:
        info['charge'] = structure['charge']
    if lattice is None:
        positions = np.array([site['xyz'] for site in sites], dtype=np.float64)
        return Atoms(symbols, positions, info=info)
    cell = np.array(lattice['matrix'], dtype=np.float64).reshape(3, 3)
    if all('abc' in site for site in sites):
        fractions = np.array([site['abc'] for site in sites], dtype=np.float64)
        positions = fractions.reshape(-1, 3) @ cell
    else:
        positions = np.array([site['xyz'] for site in sites], dtype=np.float64)
    pbc = lattice.get('pbc')
    return Atoms(
        symbols, positions, cell=cell, pbc=True if pbc is None else pbc, info=info
    )


def _element(site: Mapping[str, Any], number: int, where: str) -> str:
    """The element of a site; UserError for one that is shared or half empty."""
    species = site['species']
    if len(species) != 1 or abs(float(species[0].get('occu', 1)) - 1.0) > 1e-8:
        held = ', '.join(f'{s["element"]} {s.get("occu", 1):g}' for s in species)
        raise UserError(
            f'{where}: site {number} is partially occupied ({held}). Give ordered '
            'structures, or leave it out with `on_bad: skip`.'
        )
    return str(species[0]['element'])


def _of_columns(record: Mapping[str, Any]) -> Atoms:
    cell = record.get(COLUMNS[0])
    positions = np.array(record[COLUMNS[2]], dtype=np.float64)
    return Atoms(
        list(record[COLUMNS[1]]),
        positions.reshape(-1, 3),
        cell=None if cell is None else np.array(cell, dtype=np.float64),
        pbc=cell is not None,
    )


def _of_configuration(record: Mapping[str, Any], where: str) -> Atoms:
    """ColabFit's; a stress that is not one, as the record says, is an error."""
    cell, pbc = (record.get(name) for name in CONFIGURATION[2:])
    if (
        record.get('cauchy_stress') is not None
        and record.get('cauchy_stress_volume_normalized') is False
    ):
        raise UserError(
            f'{where}: its cauchy_stress is not divided by the volume '
            '(cauchy_stress_volume_normalized: false), so it is no stress. Leave it '
            'out with `on_bad: skip`.'
        )
    return Atoms(
        np.array(record[CONFIGURATION[0]], dtype=np.int64),
        np.array(record[CONFIGURATION[1]], dtype=np.float64).reshape(-1, 3),
        cell=None if cell is None else np.array(cell, dtype=np.float64),
        pbc=False if pbc is None else pbc,
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f'{text[:60]}…'
