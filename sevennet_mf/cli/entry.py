"""`sevennet-mf`: a command from its words to its exit code."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Final

from sevennet_mf.cli.parser import PROGRAM, make_parser

DONE, FAILED, BAD_INPUT = 0, 1, 2
# what an argument of functions is called on a command line
TYPED: Final = {'fidelity': '--fidelity', 'predict_as': '--predict_as'}
FUSED: Final = 'SEVENNET_MF_FUSED'  # kernels/library.py reads it


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 done, 2 bad input, 1 anything else."""
    from sevennet_mf.program import quiet_bars

    args = make_parser().parse_args(argv)
    shown_as, fused = warnings.formatwarning, os.environ.get(FUSED)
    if not args.debug:
        warnings.formatwarning = _one_line_warning  # type: ignore[assignment]
    if args.e3nn:
        os.environ[FUSED] = 'off'  # for processes that this one starts as well
    try:
        with quiet_bars():
            return _run(args)
    finally:
        warnings.formatwarning = shown_as
        if args.e3nn:
            os.environ.pop(FUSED)
            os.environ.update({} if fused is None else {FUSED: fused})


def _run(args: argparse.Namespace) -> int:
    from sevennet_mf.checkpoint import unpickle
    from sevennet_mf.cli import commands
    from sevennet_mf.errors import UserError
    from sevennet_mf.program import keep_freed_memory, write_failure

    keep_freed_memory()
    try:
        with unpickle.trusting(getattr(args, 'trust', False)):
            return commands.run(args)
    except KeyboardInterrupt:
        _say('interrupted')
        return FAILED
    except BrokenPipeError:  # `sevennet-mf info ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        message = _one_line(error)
        if args.failure:
            write_failure(args.failure, error, message)
        if args.debug:
            raise
        _say(message)
        return BAD_INPUT if isinstance(error, UserError) else FAILED


def _one_line_warning(message: Warning | str, *_: object) -> str:
    return f'{PROGRAM}: warning: {" ".join(str(message).split())}\n'


def _one_line(error: Exception) -> str:
    from sevennet_mf.errors import HostError, TrainingStopped, UserError

    if isinstance(error, UserError):
        error = error.called(TYPED)
    text = ' '.join(str(error).split())
    if isinstance(error, (UserError, HostError, TrainingStopped)):
        return text
    return f'{type(error).__name__}: {text} (--debug shows where)'


def _say(message: str) -> None:
    print(f'{PROGRAM}: {message}', file=sys.stderr)
