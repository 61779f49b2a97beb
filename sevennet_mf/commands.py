"""Where the code of each command is; cli.py parses, this calls."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from sevennet_mf.program import importing, show

# imported when it is called, with the parsed arguments; it returns what to print,
# several things one by one, or that and the exit code
COMMANDS: Final[dict[str, str]] = {
    'train': 'train.launch:run',
    'init': 'draft.make:run',
    'inspect': 'audit.inspect:run',
    'evaluate': 'evaluate.evaluation:run',
    'info': 'info:run',
    'extend': 'train.continuing.extend_file:run',
    'fisher': 'train.continuing.fisher:run',
    'export': 'deploy.export:run',
    'deploy': 'deploy.torchscript:run',
    'lammps_build': 'lammps.commands:run_build',
    'lammps_check': 'lammps.commands:run_check',
    'study': 'study.command:run',
    'select': 'select.choose:run',
    'label': 'label.command:run',
    'conductivity': 'analysis.conductivity.command:run',
    'demo': 'demo:run',
}


def run(args: argparse.Namespace) -> int:
    """Run `args.command`, print what it returns, and return the exit code."""
    module, function = COMMANDS[args.command].split(':')
    with importing():
        found = import_module(f'sevennet_mf.{module}')
    told: Any = getattr(found, function)(args)
    shown, code = told if isinstance(told, tuple) else (told, 0)
    for part in shown if isinstance(shown, list | Iterator) else [shown]:
        if part is not None:
            show(part)
    return int(code)
