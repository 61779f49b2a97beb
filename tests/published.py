"""Tiny files in the forms that data sets are published in, with labels of our own.

Each function writes one file or folder of structures that carry their labels as ASE
has them, in the units, signs and orders of the form: what reading it must give back.
Factors stand here as numbers, not taken from the package that is tested.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

DATA = Path(__file__).parent / 'data'
HARTREE, BOHR = 27.211386, 0.52917721  # eV, Å
KBAR = 1602.1766208  # of 1 eV/Å^3
UNCORRECTED = 'uncorrected_total_energy'


def crystals(n: int = 3, level: str = 'pbe') -> list[Atoms]:
    """Return crystals of GaN and InN in sheared cells; PBE's with stress."""
    name = {'pbe': 'pbe_train', 'r2scan': 'r2scan_pool'}[level]
    return ase.io.read(DATA / f'ingan/{name}.extxyz', f':{n}')


def molecules(n: int = 3, level: str = 'pbe') -> list[Atoms]:
    """Return molecules, with forces at PBE and energies only at CCSD(T)."""
    return ase.io.read(DATA / f'molecules/{level}_train.extxyz', f':{n}')


def full(stress: np.ndarray) -> np.ndarray:
    """(6,) in ASE's order -> (3, 3)."""
    xx, yy, zz, yz, xz, xy = stress
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def energy(atoms: Atoms) -> float:
    return float(atoms.calc.results['energy'])


def forces(atoms: Atoms) -> np.ndarray:
    return np.array(atoms.calc.results['forces'])


def vasp(atoms: Atoms) -> np.ndarray | None:
    """(6,) kbar, positive under compression, xx yy zz yz xz xy; None: no stress."""
    stress = atoms.calc.results.get('stress')
    return None if stress is None else -KBAR * stress


def structure(atoms: Atoms, charge: float | None = 0.0) -> dict[str, Any]:
    """Return a structure as pymatgen writes it."""
    fractions = np.linalg.solve(atoms.cell.T, atoms.positions.T).T
    sites = [
        {
            'species': [{'element': symbol, 'occu': 1}],
            'abc': abc.tolist(),
            'properties': {'magmom': 0.1},
            'label': symbol,
            'xyz': xyz.tolist(),
        }
        for symbol, abc, xyz in zip(
            atoms.get_chemical_symbols(), fractions, atoms.positions, strict=True
        )
    ]
    return {
        '@module': 'pymatgen.core.structure',
        '@class': 'Structure',
        'charge': charge,
        'lattice': {'matrix': atoms.cell.tolist(), 'pbc': [True, True, True]},
        'properties': {},
        'sites': sites,
    }


# ---- JSON


def matpes_record(atoms: Atoms, number: int, functional: str) -> dict[str, Any]:
    stress = vasp(atoms)
    pulls = forces(atoms)
    return {
        'builder_meta': {},
        'nsites': len(atoms),
        'composition': {'Ga': 1.0},
        'structure': structure(atoms),
        'energy': energy(atoms),
        'forces': pulls.tolist(),
        'stress': None if stress is None else stress.tolist(),
        'abs_forces': np.linalg.norm(pulls, axis=1).tolist(),
        'matpes_id': f'matpes-{number}',
        'bandgap': 0.0,
        'functional': functional,
        'formation_energy_per_atom': None,
        'cohesive_energy_per_atom': -4.2,
        'bader_charges': None,
        'provenance': {'original_mp_id': None},
    }


def matpes(path: Path, frames: Sequence[Atoms], functional: str = 'PBE') -> Path:
    """A list of records; compressed if `path` says so."""
    records = [matpes_record(a, k, functional) for k, a in enumerate(frames)]
    text = json.dumps(records)
    opener = gzip.open if path.suffix == '.gz' else open
    with opener(path, 'wt', encoding='utf-8') as stream:
        stream.write(text)
    return path


def vasp_labels(atoms: Atoms) -> dict[str, Any]:
    """Labels as MPtrj and CHGNet name them."""
    stress = vasp(atoms)
    return {
        UNCORRECTED: energy(atoms),
        'energy_per_atom': energy(atoms) / len(atoms) - 0.5,  # corrected
        'force': forces(atoms).tolist(),
        'stress': None if stress is None else full(stress).tolist(),
        'magmom': None,
    }


def mptrj(path: Path, frames: Sequence[Atoms]) -> Path:
    """Records below the ids of material and frame; the first two are of one."""
    tree: dict[str, Any] = {}
    for k, atoms in enumerate(frames):
        material = f'mp-{max(k, 1)}'
        tree.setdefault(material, {})[f'mp-{900 + k}-0-{k}'] = {
            'structure': structure(atoms),
            **vasp_labels(atoms),
            'corrected_total_energy': energy(atoms) - 0.5 * len(atoms),
            'ef_per_atom': -0.3,
            'e_per_atom_relaxed': -9.0,
            'ef_per_atom_relaxed': -0.4,
            'bandgap': 0.0,
            'mp_id': material,
        }
    path.write_text(json.dumps(tree))
    return path


def chgnet(path: Path, frames: Sequence[Atoms], has_stress: bool = True) -> Path:
    """A dictionary of lists; without stress the whole key is null."""
    labels = [vasp_labels(atoms) for atoms in frames]
    columns: dict[str, Any] = {'structure': [structure(a) for a in frames]}
    columns |= {name: [one[name] for one in labels] for name in labels[0]}
    if not has_stress:
        columns['stress'] = None
    path.write_text(json.dumps(columns))
    return path


def json_lines(path: Path, frames: Sequence[Atoms], **more: Any) -> Path:
    """A record a line: `structure`, `E`, `F`; more: a value for all of them."""
    records = [
        {'structure': structure(a), 'E': energy(a), 'F': forces(a).tolist(), **more}
        for a in frames
    ]
    path.write_text(''.join(json.dumps(record) + '\n' for record in records))
    return path


# ---- ASE-LMDB


def aselmdb(
    path: Path, frames: Sequence[Atoms], data: Sequence[dict[str, Any]] = ()
) -> Path:
    """Rows as fairchem writes them; data: what each has beside, in its `data`."""
    from ase_db_backends.aselmdb import LMDBDatabase

    with LMDBDatabase(path, use_lock_file=False) as database:
        for k, atoms in enumerate(frames):
            plain = atoms.copy()
            plain.info = {}
            plain.calc = atoms.calc
            own = data[k] if data else {'sid': f'row-{k}'}
            database.write(plain, data=own)
    lock = path.with_name(path.name + '-lock')
    lock.unlink(missing_ok=True)
    return path


# ---- HDF5


def groups(frames: Sequence[Atoms]) -> dict[str, list[Atoms]]:
    """Frames by composition, as the groups of a file hold them."""
    found: dict[str, list[Atoms]] = {}
    for atoms in frames:
        found.setdefault(atoms.get_chemical_formula(), []).append(atoms)
    return found


def in_order(frames: Sequence[Atoms]) -> list[Atoms]:
    """Frames in the order of a file: by the names of the groups."""
    return [a for _, group in sorted(groups(frames).items()) for a in group]


def ani1x(path: Path, frames: Sequence[Atoms], high: Sequence[float]) -> Path:
    """Energies of two levels, the forces of the lower; Hartree and Å.

    high: eV, of the higher level, for each of `frames`; NaN: not computed.
    """
    import h5py

    of = {id(a): e for a, e in zip(frames, high, strict=True)}
    with h5py.File(path, 'w') as file:
        for name, group in groups(frames).items():
            made = file.create_group(name)
            made['atomic_numbers'] = group[0].numbers.astype(np.uint8)
            made['coordinates'] = np.array([a.positions for a in group])
            lower = np.array([energy(a) for a in group]) / HARTREE
            made['wb97x_dz.energy'] = lower
            pulls = np.array([forces(a) for a in group]) / HARTREE
            made['wb97x_dz.forces'] = pulls
            made['wb97x_dz.dipole'] = np.zeros((len(group), 3))
            upper = np.array([of[id(a)] for a in group]) / HARTREE
            if not np.isnan(upper).all():  # else there is no such column
                made['ccsd(t)_cbs.energy'] = upper
            made['wb97x_tz.energy'] = np.full(len(group), np.nan)
            made['wb97x_tz.forces'] = np.full(pulls.shape, np.nan)
    return path


def spice(path: Path, frames: Sequence[Atoms], length: str = 'bohr') -> Path:
    """Gradients, in Hartree and `length`: 'bohr', or 'nanometer' (only lengths)."""
    import h5py

    unit = {'bohr': BOHR, 'nanometer': 10.0}[length]
    with h5py.File(path, 'w') as file:
        for name, group in groups(frames).items():
            made = file.create_group(name)
            made['atomic_numbers'] = group[0].numbers.astype(np.int16)
            made['smiles'] = ['[N+:1]([H:2])([H:3])([H:4])[H:5]']
            made['subset'] = ['made']
            values = {
                'conformations': (np.array([a.positions for a in group]), unit),
                'dft_total_energy': (np.array([energy(a) for a in group]), HARTREE),
                'formation_energy': (np.full(len(group), -1.0), HARTREE),
                'dft_total_gradient': (
                    -np.array([forces(a) for a in group]), HARTREE / BOHR
                ),
            }
            words = (length, 'hartree', 'hartree', 'hartree/bohr')
            for word, (key, (value, factor)) in zip(
                words, values.items(), strict=True
            ):
                made[key] = value / factor
                made[key].attrs['units'] = word
    return path


def qm7x(path: Path, frames: Sequence[Atoms]) -> Path:
    """A structure in each group, below that of its molecule; scalars are (1,)."""
    import h5py

    with h5py.File(path, 'w') as file:
        for k, atoms in enumerate(frames):
            made = file.create_group(f'{k + 1}/Geom-m{k + 1}-i1-c1-opt')
            made['atNUM'] = atoms.numbers
            made['atXYZ'] = atoms.positions
            made['ePBE0+MBD'] = [energy(atoms)]
            made['ePBE0'] = [energy(atoms) + 0.02]
            made['eDFTB+MBD'] = [-40.0 - k]
            made['eAT'] = [-10.0]
            made['totFOR'] = forces(atoms)
            made['pbe0FOR'] = forces(atoms) + 0.25
    return path


def aimnet(path: Path, frames: Sequence[Atoms]) -> Path:
    """Groups by the number of atoms; the last structure of each is a cation."""
    import h5py

    by_size: dict[int, list[Atoms]] = {}
    for atoms in frames:
        by_size.setdefault(len(atoms), []).append(atoms)
    with h5py.File(path, 'w') as file:
        for size, group in by_size.items():
            made, n = file.create_group(f'{size:03d}'), len(group)
            made['numbers'] = np.array([a.numbers for a in group], np.int32)
            made['coord'] = np.array([a.positions for a in group])
            made['energy'] = np.array([energy(a) for a in group])
            made['forces'] = np.array([forces(a) for a in group])
            made['charge'] = np.array([0] * (n - 1) + [1], np.int8)
            made['mult'] = np.array([1] * (n - 1) + [2], np.int8)
            made['charges'] = np.zeros((n, size))
            made['spin_charges'] = np.zeros((n, size))
            made['_id'] = np.array([b'x'] * n)
    return path


# ---- DeePMD


def virial(atoms: Atoms) -> np.ndarray:
    """(3, 3) eV, positive under compression."""
    return -atoms.cell.volume * full(atoms.calc.results['stress'])


def deepmd(
    folder: Path, frames: Sequence[Atoms], set_size: int = 2, periodic: bool = True
) -> Path:
    """One system of frames with the same atoms, spread over sets."""
    names = sorted(set(frames[0].get_chemical_symbols()), reverse=True)
    types = [names.index(s) for s in frames[0].get_chemical_symbols()]
    _raw(folder, types, names, periodic)
    for start in range(0, len(frames), set_size):
        part = frames[start : start + set_size]
        _set(folder / f'set.{start // set_size:03d}', part, periodic)
    return folder


def deepmd_mixed(folder: Path, frames: Sequence[Atoms], n_atoms: int) -> Path:
    """Frames of any atoms in one set, padded with atoms of type -1."""
    names = ['Ga', 'N', 'In']
    _raw(folder, [0] * n_atoms, names, True)
    part = folder / 'set.000'
    _set(part, frames, True, n_atoms)
    types = np.full((len(frames), n_atoms), -1)
    for row, atoms in zip(types, frames, strict=True):
        row[: len(atoms)] = [names.index(s) for s in atoms.get_chemical_symbols()]
    np.save(part / 'real_atom_types.npy', types)
    return folder


def _raw(
    folder: Path, types: list[int], names: list[str], periodic: bool
) -> None:
    folder.mkdir(parents=True)
    (folder / 'type.raw').write_text('\n'.join(map(str, types)) + '\n')
    (folder / 'type_map.raw').write_text('\n'.join(names) + '\n')
    if not periodic:
        (folder / 'nopbc').touch()


def _set(
    part: Path, frames: Sequence[Atoms], periodic: bool, n_atoms: int | None = None
) -> None:
    part.mkdir()
    n = n_atoms or len(frames[0])

    def flat(value: np.ndarray) -> np.ndarray:
        padded = np.zeros((n, 3))
        padded[: len(value)] = value
        return padded.ravel()

    np.save(part / 'coord.npy', [flat(a.positions) for a in frames])
    np.save(part / 'energy.npy', [[energy(a)] for a in frames])
    np.save(part / 'force.npy', [flat(forces(a)) for a in frames])
    if periodic:
        np.save(part / 'box.npy', [a.cell.array.ravel() for a in frames])
        if all('stress' in a.calc.results for a in frames):
            np.save(part / 'virial.npy', [virial(a).ravel() for a in frames])


# ---- MACE


def mace(
    path: Path,
    frames: Sequence[Atoms],
    isolated: dict[str, float] | None = None,
    heads: Sequence[str] = (),
    **more: Any,
) -> Path:
    """Extended XYZ with REF_ keys; isolated: energies of atoms, which come first.

    heads: of each structure; more: info that all of them have.
    """
    written = []
    for symbol, value in (isolated or {}).items():
        atom = Atoms(symbol, cell=[8.0, 8, 8])
        atom.info.update(config_type='IsolatedAtom', REF_energy=value)
        atom.arrays['REF_forces'] = np.zeros((1, 3))
        if heads:
            atom.info['head'] = heads[0]
        written.append(atom)
    for k, atoms in enumerate(frames):
        one = atoms.copy()
        one.info = {'config_type': 'bulk', 'REF_energy': energy(atoms), **more}
        if heads:
            one.info['head'] = heads[k]
        one.arrays['REF_forces'] = forces(atoms)
        if 'stress' in atoms.calc.results:
            one.info['REF_stress'] = atoms.calc.results['stress']
        written.append(one)
    ase.io.write(path, written, format='extxyz')
    return path


# ---- Parquet


def parquet(path: Path, frames: Sequence[Atoms], as_text: bool = False) -> Path:
    """A row each: the structure in a column, as such or as JSON."""
    import pyarrow as pa
    from pyarrow import parquet as pq


    def packed(atoms: Atoms) -> Any:
        # Parquet knows no empty dictionary
        whole = {k: v for k, v in structure(atoms).items() if v != {}}
        return json.dumps(whole) if as_text else whole

    rows = [
        {
            'structure': packed(a),
            'energy': energy(a),
            'forces': forces(a).tolist(),
            'stress': None if vasp(a) is None else full(vasp(a)).tolist(),
        }
        for a in frames
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def colabfit(path: Path, frames: Sequence[Atoms], **more: Any) -> Path:
    """A configuration and its properties in each row, as ColabFit publishes them."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    rows = [
        {
            'property_id': f'PO_{k}',
            'method': 'DFT-PBE',
            'energy': energy(atoms),
            'atomic_forces': forces(atoms).tolist(),
            'cauchy_stress': full(atoms.calc.results['stress']).tolist(),
            'cauchy_stress_volume_normalized': True,
            'formation_energy': None,
            'max_force_norm': float(np.linalg.norm(forces(atoms), axis=1).max()),
            'mean_force_norm': float(np.linalg.norm(forces(atoms), axis=1).mean()),
            'cell': atoms.cell.tolist(),
            'positions': atoms.positions.tolist(),
            'pbc': atoms.pbc.tolist(),
            'atomic_numbers': atoms.numbers.tolist(),
            'nsites': len(atoms),
            'names': ['a set'],
            **more,
        }
        for k, atoms in enumerate(frames)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_all(folder: Path) -> None:
    """Write the files that docs/formats.md names into a new folder."""
    folder.mkdir(parents=True)
    r2scan = crystals(3, 'r2scan')
    marks = [atoms.info['sid'] for atoms in r2scan]
    pbe = [atoms for atoms in crystals(200) if atoms.info['sid'] in marks]
    matpes(folder / 'MatPES-PBE.json.gz', pbe)
    matpes(folder / 'MatPES-r2SCAN.json.gz', r2scan, 'r2SCAN')
    mptrj(folder / 'MPtrj.json', pbe)
    chgnet(folder / 'chgnet.json', pbe)
    json_lines(folder / 'own.jsonl', pbe)
    for name in ('omat24', 'salex'):
        (folder / name).mkdir()
        aselmdb(folder / name / 'data.0000.aselmdb', pbe)
    free = molecules(5)
    high = [np.nan, *(energy(a) + 1.0 for a in free[1:])]
    ani1x(folder / 'ani1x.h5', free, high)
    spice(folder / 'spice.hdf5', free)
    qm7x(folder / 'qm7x.hdf5', free)
    aimnet(folder / 'aimnet.h5', free)
    deepmd_mixed(folder / 'deepmd' / '8', pbe, 8)
    heads = ['pbe'] * len(pbe) + ['r2scan'] * len(r2scan)
    isolated = {'Ga': -0.3, 'N': -3.1}
    mace(folder / 'heads.xyz', [*pbe, *r2scan], isolated, heads)
    parquet(folder / 'own.parquet', pbe)
    (folder / 'co').mkdir()
    colabfit(folder / 'co' / 'co_0.parquet', pbe)
