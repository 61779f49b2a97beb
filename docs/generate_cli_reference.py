"""Write cli.md from the parser of sevennet_mf/cli.

    python docs/generate_cli_reference.py

A test fails if the page in the repository is not what this writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from sevennet_mf import cli
from sevennet_mf.cli.commands import COMMANDS

PAGE = Path(__file__).with_name('cli.md')
HEAD = """\
# Command line

<!-- written by docs/generate_cli_reference.py from sevennet_mf/cli/options.py -->

`sevennet-mf COMMAND --help` prints the same information. Every command accepts
`--debug`, which shows the traceback of an error instead of one line, and `--e3nn`,
which uses e3nn for convolutions on a CPU ([](speed.md)). With `--trust` a command
also reads checkpoints and graph files that run code when they are read
([](errors.md)). Option names may be written with dashes instead of underscores.

| exit code | meaning |
|---|---|
| 0 | success |
| 2 | bad input: the YAML, the data, a file, an option |
| 1 | anything else, including an interrupted training run |

Progress bars are shown only on a terminal.

On Linux the program keeps memory freed in one step for the next. By default, glibc
would return large arrays to the system, which then clears them again. A training
step of 7net-0 thereby takes about a sixth less CPU time, with the same peak memory.
If the environment sets `GLIBC_TUNABLES`, `MALLOC_TRIM_THRESHOLD_` or
`MALLOC_MMAP_THRESHOLD_`, these settings are used instead;
`MALLOC_TRIM_THRESHOLD_=131072` restores glibc's default. `import sevennet_mf` does
not change any of this.
"""
MORE = {
    'train': (
        'See [](training.md), [](interruption.md) and [](distributed.md). It '
        'accepts the options of `sevenn train`, and `--resume`.'
    ),
    'init': 'See [](quickstart.md).',
    'inspect': 'See [](inspect.md).',
    'evaluate': 'See [](evaluate.md).',
    'info': 'See [](evaluate.md).',
    'extend': 'See [](pretrained.md).',
    'fisher': 'See [](pretrained.md).',
    'export': 'See [](export.md).',
    'deploy': 'See [](lammps.md).',
    'lammps build': 'See [](lammps.md).',
    'lammps check': 'See [](lammps.md).',
    'study': 'See [](study.md).',
    'select': 'See [](select.md).',
    'label': 'See [](label.md).',
    'conductivity': 'See [](conductivity.md).',
    'hull': 'See [](hull.md).',
    'demo': 'This is the command that `make demo` runs. See [](quickstart.md).',
}


def name_of(action: argparse.Action) -> str:
    """Return `-o`, `--output` OUTPUT."""
    if not action.option_strings:
        several = ' …' if action.nargs == '+' else ''
        return f'`{action.dest}`{several}'
    names = ', '.join(f'`{name}`' for name in action.option_strings)
    return names if action.nargs == 0 else f'{names} …'


def meaning(action: argparse.Action) -> str:
    """Return the help, what may be chosen, and the default that it leaves out."""
    text = action.help or ''
    if action.choices:
        text += f' ({", ".join(f"`{choice}`" for choice in action.choices)})'
    if action.nargs != 0 and action.default is not None and 'default' not in text:
        text += f'; default: {action.default}'
    return text.replace('|', '\\|')


def commands_of(
    parser: argparse.ArgumentParser, group: str = ''
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the name and the parser of each command, and of each in a group."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield f'{group}{name}', sub
                yield from commands_of(sub, f'{group}{name} ')


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    commands = dict(commands_of(cli.make_parser()))
    for name, command in COMMANDS.items():
        lines = [f'## `sevennet-mf {name}`', '']
        summary = f'{command.summary[0].upper()}{command.summary[1:]}.'
        lines += [f'{summary} {MORE.get(name, "")}'.strip()]
        lines += ['', '| argument | meaning |', '|---|---|']
        for action in commands[name]._actions:
            if action.dest in ('help', 'debug', 'e3nn'):
                continue
            if action.help != argparse.SUPPRESS:  # of our own processes
                lines.append(f'| {name_of(action)} | {meaning(action)} |')
        parts.append('\n'.join(lines) + '\n')
    return '\n'.join(parts)


if __name__ == '__main__':
    PAGE.write_text(page(), encoding='utf-8')
