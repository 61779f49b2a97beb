"""Parsing, exit codes, and what reaches the terminal."""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import pytest
from commandline import run, small_yaml, write_yaml

from sevennet_mf import __version__, cli
from sevennet_mf.cli import commands
from sevennet_mf.cli.parser import Parser
from sevennet_mf.errors import HostError, TrainingStopped, UserError, unknown
from sevennet_mf.files import read_json
from sevennet_mf.program import why_it_failed

COMMANDS = [
    *['train', 'inspect', 'evaluate', 'info', 'export', 'deploy', 'lammps build'],
    *['lammps check', 'demo'],
]
HEAVY = ('torch', 'sevenn', 'numpy', 'ase', 'e3nn', 'matplotlib', 'pydantic', 'rich')
LOOK = f"""
import sys
import termios
from sevennet_mf.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert stop.code == 0, stop.code
found = [name for name in {HEAVY} if name in sys.modules]
assert not found, found
"""


def test_the_commands_of_the_issue_are_there() -> None:
    assert set(COMMANDS) <= set(commands.COMMANDS)


@pytest.mark.parametrize(
    'args',
    [['--help'], ['--version'], *([*name.split(), '--help'] for name in COMMANDS)],
    ids=' '.join,
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    """So that it answers at once: torch alone takes seconds."""
    result = run(*args, command=[sys.executable, '-c', LOOK])
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    word = __version__ if args == ['--version'] else 'usage: sevennet-mf'
    assert result.stdout.startswith(word)


def test_train_takes_what_the_host_takes() -> None:
    from sevenn.main.sevenn import cmd_parser_train

    host = argparse.ArgumentParser()
    cmd_parser_train(host)
    line = [
        *['input.yaml', '-m', 'train_v2', '-cueq', '-flashTP', '-oeq', '-w', 'out'],
        *['-l', 'log', '-s', '-d', '--distributed_backend', 'mpi'],
    ]
    for words in (line, ['input.yaml']):
        wanted = vars(host.parse_args(words))
        ours = vars(cli.make_parser().parse_args(['train', *words]))
        assert {name: ours[name] for name in wanted} == wanted
    ours = vars(cli.make_parser().parse_args(['train', 'input.yaml', '-w']))
    assert ours['working_dir'] == '.'


@pytest.mark.parametrize(
    'args',
    [
        *([], ['trian'], ['train'], ['train', 'a.yaml', '--colour'], ['info']),
        *(['lammps'], ['lammps', 'run'], ['export']),
    ],
)
def test_what_cannot_be_parsed_ends_with_2(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(args)
    assert stop.value.code == 2
    assert 'usage: sevennet-mf' in capsys.readouterr().err


def test_an_error_about_an_argument_names_its_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(args: argparse.Namespace) -> int:
        raise unknown('fidelity', args.fidelity, ['pbe'])

    monkeypatch.setattr(commands, 'run', refuse)
    assert cli.main(['export', 'm.pth', '-f', 'pbee']) == cli.BAD_INPUT
    said = "sevennet-mf: --fidelity must be one of ['pbe'], got 'pbee'. Did you mean"
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize('command', commands.COMMANDS)
def test_a_dash_does_for_an_underscore(command: str) -> None:
    parser = Parser()
    commands.COMMANDS[command].options(parser)
    for option in parser.options:
        assert parser._spelt(option.replace('_', '-')) == option
        assert parser._spelt(f'{option.replace("_", "-")}=a-b') == f'{option}=a-b'
    assert parser._spelt('--never-heard-of') == '--never-heard-of'


def test_dashes_of_values_stay() -> None:
    words = ['deploy', 'my--file', '--no-table', '-o', 'a-b', '-f=x-y']
    args = cli.make_parser().parse_args(words)
    assert (args.checkpoint, args.output, args.no_table) == ('my--file', 'a-b', True)
    words = ['deploy', '--', '--no-table']
    assert cli.make_parser().parse_args(words).checkpoint == '--no-table'


@pytest.mark.parametrize(
    ('words', 'hint'),
    [
        (['deploy', 'a', '--no_tabel'], "--no_tabel Did you mean '--no_table'?"),
        (['train', 'a', '--resumee'], "Did you mean '--resume'?"),
        (['train', 'a', '--colour'], '--colour\n'),
    ],
)
def test_an_unknown_option_has_a_hint(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(words)
    said = capsys.readouterr().err
    assert f'unrecognized arguments: {words[2]}' in said
    assert hint in said


@pytest.mark.parametrize(
    ('error', 'code', 'line'),
    [
        (UserError('no such\nfile: a'), 2, 'sevennet-mf: no such file: a\n'),
        (TrainingStopped('stopped'), 1, 'sevennet-mf: stopped\n'),
        (HostError('sevenn 9'), 1, 'sevennet-mf: sevenn 9\n'),
        (KeyboardInterrupt(), 1, 'sevennet-mf: interrupted\n'),
        (
            ZeroDivisionError('by zero'),
            1,
            'sevennet-mf: ZeroDivisionError: by zero (--debug shows where)\n',
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_code_and_line_of_each_kind_of_error(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(args: argparse.Namespace) -> None:
        raise error

    monkeypatch.setattr(commands, 'run', fail)
    assert cli.main(['info', 'a.pth']) == code
    assert capsys.readouterr() == ('', line)
    if isinstance(error, Exception):  # Ctrl-C is not a mistake to look for
        with pytest.raises(type(error)):
            cli.main(['info', 'a.pth', '--debug'])


def test_who_started_a_command_is_told_why_it_failed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By a file, in the words of the line, whatever else is on stderr."""

    def fail(args: argparse.Namespace) -> None:
        raise ZeroDivisionError('by\nzero')

    monkeypatch.setattr(commands, 'run', fail)
    path = tmp_path / 'failed.json'
    assert cli.main(['info', 'a.pth', '--failure', str(path)]) == 1
    said = read_json(path)
    assert said['kind'] == 'ZeroDivisionError'
    assert capsys.readouterr().err == f'sevennet-mf: {said["message"]}\n'
    assert why_it_failed(1, path) == said['message']
    gone = str(tmp_path / 'gone' / 'failed.json')  # the line is there all the same
    assert cli.main(['info', 'a.pth', '--failure', gone]) == 1
    assert 'by zero' in capsys.readouterr().err
    assert '--failure' not in cli.make_parser().format_help()


@pytest.mark.parametrize('code', [0, 2])
def test_a_command_may_say_its_exit_code(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, 'run', lambda args: code)
    assert cli.main(['inspect', 'a.yaml']) == code


def test_a_warning_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(args: argparse.Namespace) -> int:
        warnings.warn('In is not\ndetermined', UserWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(commands, 'run', warn)
    shown_as = warnings.formatwarning
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        # pytest records warnings; this one is shown as outside of it
        monkeypatch.setattr(warnings, '_showwarnmsg_impl', SHOW)
        assert cli.main(['info', 'a.pth']) == 0
    assert capsys.readouterr().err == 'sevennet-mf: warning: In is not determined\n'
    assert warnings.formatwarning is shown_as


def SHOW(message: warnings.WarningMessage) -> None:  # noqa: N802
    text = warnings.formatwarning(
        message.message, message.category, message.filename, message.lineno
    )
    sys.stderr.write(text)


def test_the_traceback_is_for_debug_only(tmp_path: Path) -> None:
    """And the process ends with the code, not only main()."""
    words = ('train', tmp_path / 'no.yaml')
    plain = run(*words)
    assert plain.returncode == 2
    assert plain.stderr == f'sevennet-mf: no such file: {tmp_path / "no.yaml"}.\n'
    debug = run(*words, '--debug')
    assert debug.returncode == 1
    assert 'Traceback (most recent call last)' in debug.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """`sevennet-mf ... | head`"""
    code = (
        'import sys\n'
        'from sevennet_mf import cli\n'
        'from sevennet_mf.cli import commands\n'
        'commands.run = lambda args: sys.stdout.write("x" * 1000000)\n'
        'sys.exit(cli.main(["info", "a"]))\n'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=120) in (0, 1)
    with process.stderr:
        assert process.stderr.read() == b''


@pytest.mark.parametrize('on_a_terminal', [True, False])
def test_bars_of_others_are_for_terminals_too(on_a_terminal: bool) -> None:
    # tqdm as SevenNet calls it
    code = (
        'import sys\n'
        'from sevennet_mf.cli import entry\n'
        f'sys.stderr.isatty = lambda: {on_a_terminal}\n'
        'def run(args):\n'
        '    from tqdm import tqdm\n'
        '    return len(list(tqdm([], desc="graph_build")))\n'
        'entry._run = run\n'
        'sys.exit(entry.main(["info", "a"]))\n'
    )
    process = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert ('graph_build' in process.stderr) is on_a_terminal


def test_the_progress_bar_is_for_terminals(tmp_path: Path) -> None:
    """The run of a user who watches it; with the time that is left."""
    path = write_yaml(tmp_path / 'input.yaml', small_yaml())
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = subprocess.Popen(
        [sys.executable, '-m', 'sevennet_mf.cli', 'train', path, '-w', tmp_path],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b''
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=120) == 0, shown.decode()
    text = shown.decode()
    # tqdm: [time so far<time left, rate]
    assert re.search(r'epoch 1/1.* 8/8 \[\d\d:\d\d<00:00', text)
    assert re.search(r'graphs.*16/16', text)

