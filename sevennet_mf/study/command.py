"""`sevennet-mf study`: plan, run, report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from sevennet_mf.checkpoint import unpickle
from sevennet_mf.files import make_folder
from sevennet_mf.study.plan.folders import plan
from sevennet_mf.study.plan.study_yaml import read_study
from sevennet_mf.study.running.worker_process import COMMAND, TRUST
from sevennet_mf.study.runs import LOW, Run
from sevennet_mf.study.status import Status, read_all


def run(args: argparse.Namespace) -> tuple[list[Table | str], int]:
    """Run `sevennet-mf study`.

    Args:
        args: With `study_yaml`, `output`, `dry_run` and `report_only`.

    Returns:
        What to show at the end, and the exit code: 0 if every run has its result,
        else 1.

    Raises:
        UserError: For a study that is not possible.
        TrainingStopped: If it was interrupted; the same call resumes it.
    """
    if args.dry_run:
        runs = plan(read_study(args.study_yaml), args.output, dry_run=True)
        return [planned(runs)], 0
    whole = True
    if not args.report_only:
        states = _plan_and_do(args)
        whole = all(status.state == 'done' for status in states.values())
    from sevennet_mf.study.report import page, tables

    path = page.write(args.output)
    return [tables.for_terminal(args.output), f'report: {path}'], int(not whole)


def _plan_and_do(args: argparse.Namespace) -> Mapping[str, Status]:
    from sevennet_mf.study.running import execute
    from sevennet_mf.study.running.progress import Display

    study = read_study(args.study_yaml)
    folder = Path(args.output).absolute()
    make_folder(folder, 'Choose another folder with -o.')
    given = [args.study_yaml, '-o', args.output]
    command = f'sevennet-mf study {shlex.join(map(str, given))}'
    # a second call would add runs that the first one does not know
    with execute.locked(folder):
        runs = plan(study, folder, command=command)
        with Display(runs) as display:
            trust = [TRUST] if unpickle.is_trusting() else []
            return execute.work(
                runs,
                study.run,
                on_change=display.update,
                command=[*COMMAND, *trust],
            )


def planned(runs: Sequence[Run]) -> Table:
    """Return a table of the runs, with what is left to do."""
    states = read_all(runs)
    left = [run for run in runs if states[run.name].state != 'done']
    steps = sum(run.stages[-1]['steps'] for run in left)
    notes = []
    if any(len(run.steps) > 1 for run in runs):
        notes.append(
            'where there are two numbers, the first is for the run it depends on'
        )
    for one in runs:
        if reason := one.content.get('cannot'):
            notes.append(f'{one.name} will fail: {reason}')
    table = Table(
        title=f'{len(runs)} runs, {len(left)} to do: {steps} optimiser steps in all',
        caption='\n'.join(notes),
        caption_justify='left',
    )
    for name in ('run', 'labels', 'steps', 'needs', 'state'):
        table.add_column(name, justify='right' if name == 'labels' else 'left')
    for one in runs:
        each = ' + '.join(map(str, one.steps))
        labels = '' if one.method == LOW else str(one.labels)
        state = states[one.name].state
        table.add_row(one.name, labels, each, ', '.join(one.needs), state)
    return table
