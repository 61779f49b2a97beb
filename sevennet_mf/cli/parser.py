"""A command-line parser that understands other spellings and gives hints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

from sevennet_mf import __version__
from sevennet_mf.cli.commands import COMMANDS, GROUPS
from sevennet_mf.errors import nearest

PROGRAM: Final = 'sevennet-mf'


class Parser(argparse.ArgumentParser):
    """Takes `--no-table` for `--no_table`, and suggests what may be meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.options: list[str] = []
        super().__init__(*args, **kwargs)

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        self.options += [name for name in names if name.startswith('--')]
        return super().add_argument(*names, **kwargs)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        end = words.index('--') if '--' in words else len(words)
        words[:end] = map(self._spelt, words[:end])
        found, left = super().parse_known_args(words, namespace)
        if left and left[0].startswith('-'):
            self.error(f'unrecognized arguments: {" ".join(left)}{self._hint(left)}')
        return found, left

    def _spelt(self, word: str) -> str:
        name, equals, value = word.partition('=')
        other = f'--{name[2:].replace("-", "_")}'
        known = any(option.startswith(other) for option in self.options)
        return f'{other}{equals}{value}' if name.startswith('--') and known else word

    def _hint(self, left: Sequence[str]) -> str:
        name = left[0].partition('=')[0].lstrip('-').replace('-', '_')
        hint = nearest(name, [option.lstrip('-') for option in self.options])
        return hint.replace("mean '", "mean '--")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `sevennet-mf`, with a sub-parser for each command."""
    parser = Parser(
        PROGRAM, description='Multi-fidelity training for SevenNet.'
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = {'': parser.add_subparsers(required=True, metavar='COMMAND')}
    for group, summary in GROUPS.items():
        sub = commands[''].add_parser(group, help=summary, description=summary)
        commands[group] = sub.add_subparsers(required=True, metavar='COMMAND')
    for name, command in COMMANDS.items():
        group, _, last = name.rpartition(' ')
        sub = commands[group].add_parser(
            last, help=command.summary, description=command.summary
        )
        sub.set_defaults(command=name)
        command.options(sub)
        if command.reads:
            sub.add_argument(
                '--trust',
                action='store_true',
                help='read files that run code; only for files you made yourself',
            )
        sub.add_argument(
            '--e3nn',
            action='store_true',
            help='use e3nn for convolutions instead of the fused kernel for CPUs',
        )
        sub.add_argument('--failure', help=argparse.SUPPRESS)  # of our own processes
        sub.add_argument(
            '--debug', action='store_true', help='show the traceback of an error'
        )
    return parser
