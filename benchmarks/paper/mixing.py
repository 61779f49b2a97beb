"""Mixing energies at x = 0 to 1 of all models of a study, and their R².

    python mixing.py ingan/compositions ingan/geometries --reference ingan/reference
        --structures ingan/r2scan_mixing.extxyz --low ingan/pbe_mixing.extxyz

R² is over the mixed crystals, against the labels of the structures (the teacher)
and against the reference model: the mean of its seeds; for a seed of its own, the
mean of the others. Runs that are not done yet are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from rich.console import Console
from rich.table import Table

from sevennet_mf import DeltaCalculator, FidelityCalculator
from sevennet_mf.analysis.mixing import Mixing, mixing_energy, r_squared
from sevennet_mf.arrays import Floats
from sevennet_mf.checkpoint.file import read_checkpoint
from sevennet_mf.checkpoint.origin import names_in
from sevennet_mf.errors import UserError
from sevennet_mf.files import write_json
from sevennet_mf.study.report.run_results import OverSeeds, RunResult, collect
from sevennet_mf.study.report.words import spread
from sevennet_mf.study.running.measure import checkpoint_of
from sevennet_mf.study.runs import LOW, Run, read_run

ENDS = ('GaN', 'InN')
REFERENCE = 'reference'
COMPARED = ('teacher', REFERENCE)


@dataclass(frozen=True)
class Curve:
    """The mixing energies of one model.

    Attributes:
        study: Name of the folder of its study.
        energy: (n,) meV/atom, in the order of the structures.
    """

    study: str
    row: str
    labels: int
    seed: int
    energy: Floats


def calculator_of(run: Run, device: str = 'cpu') -> Any:
    """Return a calculator of a run's target, for the checkpoint that is measured."""
    path = checkpoint_of(run)
    if run.method == 'delta':
        low = checkpoint_of(run.needed())
        fidelity = own_name(low, run.content['low'])
        return DeltaCalculator(low, path, fidelity, device)
    return FidelityCalculator(path, own_name(path, run.content['target']), device)


def own_name(checkpoint: Path, fidelity: str) -> str | None:
    """Return the fidelity, or None for a model of one: it may not know its name."""
    names = names_in(read_checkpoint(str(checkpoint))[1]['config'])
    return fidelity if len(names) > 1 else None


def of_study(folder: str, structures: Sequence[Atoms]) -> list[Curve]:
    """Return the mixing energies of all finished runs of a study."""
    done = [r for r in collect(folder) if r.state == 'done' and r.method != LOW]
    return [curve(Path(folder).name, result, structures) for result in done]


def curve(study: str, result: RunResult, structures: Sequence[Atoms]) -> Curve:
    calculator = calculator_of(read_run(result.folder))
    energies = [calculator.get_potential_energy(atoms) for atoms in structures]
    found = mixing_energy(structures, energies, ENDS).energy
    return Curve(study, result.row, result.labels, result.seed, found)


def labelled(structures: Sequence[Atoms]) -> Mixing:
    """Return the mixing energies of the labels."""
    energies = [atoms.get_potential_energy() for atoms in structures]
    return mixing_energy(structures, energies, ENDS)


def reference_for(one: Curve, reference: Sequence[Curve]) -> Floats | None:
    """Return what a curve is compared with; None if there is nothing."""
    others = [c.energy for c in reference if c is not one]
    return np.mean(others, axis=0) if others else None


def judged(
    one: Curve, teacher: Mixing, reference: Sequence[Curve]
) -> dict[str, float]:
    """Return R² and the MAE (meV/atom) of a curve over the mixed crystals."""
    mixed = teacher.is_mixed
    found = compared(teacher.energy[mixed], one.energy[mixed], 'teacher')
    if (known := reference_for(one, reference)) is not None:
        found |= compared(known[mixed], one.energy[mixed], 'reference')
    return found


def compared(known: Floats, predicted: Floats, name: str) -> dict[str, float]:
    return {
        f'r2_{name}': r_squared(known.tolist(), predicted.tolist()),
        f'mae_{name}': float(np.abs(predicted - known).mean()),
    }


# ---- tables


Group = tuple[str, str, int]


def groups(found: Iterable[Curve]) -> dict[Group, list[Curve]]:
    """By study, row and number of labels, the curves of all seeds."""
    grouped: dict[Group, list[Curve]] = {}
    for one in found:
        grouped.setdefault((one.study, one.row, one.labels), []).append(one)
    return grouped


def quality(
    found: Sequence[Curve], teacher: Mixing, low: Mixing | None
) -> tuple[Table, list[dict[str, Any]]]:
    """Return the table over seeds, and R² and errors of each curve."""
    table = Table('study', 'method', 'labels', 'seeds', title='mixing energy')
    keys = [f'{what}_{name}' for name in COMPARED for what in ('r2', 'mae')]
    for name in COMPARED:
        table.add_column(f'R² ({name})', justify='right')
        table.add_column(f'meV/atom ({name})', justify='right')
    reference = [one for one in found if one.study == REFERENCE]
    told = []
    for (study, row, labels), curves in groups(found).items():
        each = [judged(one, teacher, reference) for one in curves]
        about = {'study': study, 'row': row, 'labels': labels}
        told += [
            {**about, 'seed': one.seed, **numbers}
            for one, numbers in zip(curves, each, strict=True)
        ]
        cells = [over_seeds([n[key] for n in each if key in n]) for key in keys]
        table.add_row(study, row, str(labels), str(len(curves)), *cells)
    if low is not None:
        mixed = teacher.is_mixed
        plain = compared(teacher.energy[mixed], low.energy[mixed], 'teacher')
        cells = [over_seeds([plain[key]]) for key in keys[:2]]
        table.add_row('', 'low labels', '', '', *cells, '–', '–')
    return table, told


def over_seeds(values: Sequence[float]) -> str:
    """Mean ± standard deviation of a cell; its order does not matter."""
    seeds = tuple(range(len(values)))
    return spread(OverSeeds(seeds, tuple(values))) if values else '–'


def by_x(found: Sequence[Curve], teacher: Mixing, low: Mixing | None) -> Table:
    """Return the mean mixing energy of each composition."""
    table = Table('study', 'method', title='meV/atom, mean of the crystals at x')
    values = np.unique(teacher.x.round(6))
    for x in values:
        table.add_column(f'{x:g}', justify='right')
    lines: list[tuple[str, str, Floats]] = [('', 'teacher', teacher.energy)]
    if low is not None:
        lines.append(('', 'low labels', low.energy))
    for (study, row, _), curves in groups(found).items():
        lines.append((study, row, np.mean([one.energy for one in curves], axis=0)))
    for study, row, energy in lines:
        means = [energy[np.isclose(teacher.x, x)].mean() for x in values]
        table.add_row(study, row, *(f'{mean:.1f}' for mean in means))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables and write the numbers of each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    add = parser.add_argument
    add('studies', nargs='+', help='folders of studies')
    add('--reference', required=True, help='folder of the study of the reference')
    add('--structures', required=True, help='crystals with labels of the target')
    add('--low', help='the same crystals with labels of the low fidelity')
    add('-o', '--output', default='mixing.json')
    args = parser.parse_args(argv)
    structures = read(args.structures, ':')
    teacher = labelled(structures)
    low = labelled(read(args.low, ':')) if args.low else None
    if low is not None and not np.allclose(low.x, teacher.x):
        raise UserError(
            f'{args.low} has other crystals than {args.structures}. Give the labels '
            'of the same structures.'
        )
    found = [
        Curve(REFERENCE, c.row, c.labels, c.seed, c.energy)
        for c in of_study(args.reference, structures)
    ]
    for folder in args.studies:
        found += of_study(folder, structures)
    table, told = quality(found, teacher, low)
    console = Console(width=120)
    console.print(table)
    console.print(by_x(found, teacher, low))
    write_json(Path(args.output), {'n': len(structures), 'runs': told})
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
