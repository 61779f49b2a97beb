"""`sevennet-mf hull`: energies above hull at several levels of theory."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import RenderableType

from sevennet_mf.analysis.hull.compare import Hulls, compare
from sevennet_mf.analysis.hull.diagram import need_pymatgen
from sevennet_mf.analysis.hull.picture import draw
from sevennet_mf.analysis.hull.relaxations import Relaxation, of_before, relax_all
from sevennet_mf.analysis.hull.report import MEV, as_dictionary, as_rows, shown
from sevennet_mf.analysis.hull.structures import read_starts
from sevennet_mf.errors import UserError
from sevennet_mf.files import make_folder, write_csv, write_json
from sevennet_mf.label.exchange import Teacher
from sevennet_mf.label.teacher import arguments_of, teacher_of

NAME: Final[str] = 'hull'  # of the files with the result
FAILED: Final[int] = 1


def run(args: argparse.Namespace) -> tuple[RenderableType, int]:
    """Run `sevennet-mf hull`; return what to print, and the exit code.

    The code is 1 if a structure has no energy.

    Raises:
        UserError: Something cannot be used.
        TrainingStopped: After a signal; the same call continues.
    """
    need_pymatgen()  # before the relaxations, not after them
    teacher = teacher_of(
        args.calculator, args.fidelity, arguments_of(args.arguments), args.trust
    )
    how = Relaxation(args.fmax, args.steps, args.fixed)
    found = hull(args.structures, teacher, args.output, how, args.tolerance / MEV)
    write(found, Path(args.output))
    return shown(found, args.output), FAILED if found.failures else 0


def hull(
    files: Sequence[str],
    teacher: Teacher,
    output: str,
    how: Relaxation,
    tolerance: float,
) -> Hulls:
    """Relax structures at each level, and return their phase diagrams.

    Levels of earlier calls in the same folder are compared as well, if they have
    all structures.

    Args:
        files: With structures, of each element at least one.
        teacher: Who computes energies.
        output: Folder for relaxed structures.
        how: How they are relaxed.
        tolerance: In eV/atom; stability that changes by less is too close to call.

    Returns:
        The phase diagrams.

    Raises:
        UserError: Something of this cannot be used.
        TrainingStopped: After a signal; the same call continues.
    """
    if not 0 <= tolerance < float('inf'):
        raise UserError(
            f'--tolerance must be 0 meV/atom or more, got {MEV * tolerance:g}.'
        )
    if NAME in teacher.names:
        raise UserError(
            f'--fidelity {NAME}: {NAME}.json is the result. Choose another name.'
        )
    starts = read_starts(files)
    folder = Path(output)
    make_folder(folder, 'Choose another folder with -o.', to_write=True)
    # after the relaxations: what is wrong with these is told before
    now = relax_all(starts, teacher, folder, how)
    before = of_before(starts, folder, how, but=(NAME, *now))
    return compare(starts, {**before, **now}, how, tolerance)


def write(hulls: Hulls, folder: Path) -> None:
    """Write hull.json, hull.csv and hull.png.

    Raises:
        UserError: The folder cannot be written.
    """
    write_json(folder / f'{NAME}.json', as_dictionary(hulls), finite=True)
    write_csv(folder / f'{NAME}.csv', as_rows(hulls))
    draw(hulls, str(folder / f'{NAME}.png'))
