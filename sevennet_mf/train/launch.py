"""`sevennet-mf train`: from its arguments to our own run, or the host's."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import shlex
import warnings
from collections.abc import Iterator
from typing import Any

import sevennet_mf
from sevennet_mf.checkpoint import unpickle
from sevennet_mf.config import inputs
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.program import importing

Sections = dict[str, Any]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(args: argparse.Namespace) -> str | None:
    """Train: with the host's own code, or with ours for a YAML with fidelities.

    Returns:
        What to say at the end.
    """
    sections = inputs.load_yaml(args.input_yaml)
    with importing():
        from sevennet_mf.kernels import library

        sevennet_mf.register()
    is_ours = inputs.has_fidelity(sections)
    library.check_environment(is_used=is_ours)
    how = _train_fidelities if is_ours else _train_as_host
    return how(args, sections)


def _train_as_host(args: argparse.Namespace, sections: Sections) -> str | None:
    with importing():
        from sevenn.logger import Logger
        from sevenn.main import sevenn

        from sevennet_mf import host_traps
        from sevennet_mf.config import host_checks
        from sevennet_mf.distributed import from_environment

    inputs.refuse_ignored(sections)
    host_checks.complete(sections.get('train'))
    if args.resume:
        raise UserError(
            '--resume needs a `fidelity` block; without one use `continue:` in the '
            'YAML.'
        )
    if args.distributed and args.distributed_backend == 'gloo':
        raise UserError(
            "without a `fidelity` block this is SevenNet's own training, which "
            'supports only the backends nccl and mpi.'
        )
    _check_accelerators(args, {})
    if args.distributed:
        from_environment(args.distributed_backend)  # the host: a KeyError
    folder = args.working_dir or '.'
    if not unpickle.is_trusting():
        for path in host_traps.pickled_files(sections, folder):
            unpickle.check(path)
    for line in host_traps.warnings_for(sections, folder):
        warnings.warn(line, UserWarning, stacklevel=2)
    try:
        # else torch_geometric warns of SevenNet's files
        with unpickle.allowing(), host_traps.own_configuration():
            sevenn.run(args)
    except SystemExit as stop:  # the host has written the reason to its log only
        if stop.code:
            reason = ' '.join(str(stop.__context__ or 'see its log').split())
            raise UserError(
                f'SevenNet could not read {args.input_yaml}: {reason}'
            ) from None
    return _closing_of_host(folder) if Logger().rank == 0 else None


def _closing_of_host(folder: str) -> str:
    best = os.path.join(folder, 'checkpoint_best.pth')
    if not os.path.isfile(best):
        return (
            f"{folder}: output of SevenNet's own training. Without a "
            'load_validset_path there is no checkpoint_best.pth.'
        )
    return (
        f"{best}: from SevenNet's own training; its errors are in lc.csv\n"
        f'sevennet-mf info {shlex.quote(best)}'
    )


def _train_fidelities(args: argparse.Namespace, sections: Sections) -> str | None:
    from sevennet_mf.interrupt import remembered

    with remembered():
        return _train_here(args, sections)


def _train_here(args: argparse.Namespace, sections: Sections) -> str | None:
    import torch

    with importing():
        from sevennet_mf.distributed import process_group
        from sevennet_mf.train import run as own
        from sevennet_mf.train.loop import run_folder

    if args.mode != 'train_v2':
        raise UserError('-m train_v1 does not support fidelities; remove it.')
    # first of all: a process that fails later does not leave the others waiting
    with process_group(args.distributed, args.distributed_backend) as process:
        working_dir = os.path.abspath(args.working_dir or '.')
        began = None
        if args.resume:
            began = run_folder.began_with(working_dir)
            sections = run_folder.follow(sections, began, working_dir)
        asked = inputs.read(sections, began)
        model, train, data = asked.dumped()
        _check_accelerators(args, model)
        own.check_folder(working_dir)
        asked = asked.with_model(_accelerated(asked.sections[0], args))
        with _log(args, working_dir, process.rank) as log:
            log.greeting()
            log.print_config(model, data, train)
            random.seed(asked.seed)
            torch.manual_seed(asked.seed)
            return own.train(asked, working_dir, process, args.resume) or None


@contextlib.contextmanager
def _log(args: argparse.Namespace, working_dir: str, rank: int) -> Iterator[Any]:
    """The host's log, in a file of its own, with the error that ended the run."""
    from sevenn.logger import Logger
    from sevenn.util import unique_filepath

    path = unique_filepath(os.path.join(working_dir, args.log))
    with Logger(path, args.screen, rank).switch_file(path) as log:
        log.screen = args.screen and rank == 0
        with _errors_in_log(log, working_dir):
            yield log


def _check_accelerators(args: argparse.Namespace, model: dict[str, Any]) -> None:
    from sevennet_mf.model import accelerators

    accelerators.check(args.enable_cueq, args.enable_flash, args.enable_oeq, model)


def _accelerated(
    section: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """The host's section `model` with the accelerator of the command line."""
    from sevennet_mf.model import accelerators

    own = accelerators.asked(section)
    flags = {name: on or getattr(args, name) for name, on in own.items()}
    section = dict(section)
    accelerators.switch(section, **flags)
    return section


@contextlib.contextmanager
def _errors_in_log(log: Any, working_dir: str) -> Iterator[None]:
    """Write an error that ends a run into its log as well."""
    try:
        yield
    except (UserError, TrainingStopped) as error:
        with contextlib.suppress(OSError):  # a full disk has no room for this either
            log.writeline(f'\n{error}')
        raise
    except OSError as error:
        if error.errno in FULL:  # such as the log's own, at any line
            raise UserError(
                f'{working_dir} cannot be written: {error.strerror}. Free space or '
                'choose another folder with -w.'
            ) from error
        log.error(error)
        raise
    except Exception as error:
        log.error(error)
        raise
