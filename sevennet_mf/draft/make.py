"""`sevennet-mf init`: from files to a YAML that is ready to train."""

from __future__ import annotations

import copy
import os
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import yaml
from rich.console import RenderableType

from sevennet_mf import files
from sevennet_mf.audit import inspect
from sevennet_mf.audit.summary import Audit
from sevennet_mf.config import compatible, inputs
from sevennet_mf.config.option_words import in_options
from sevennet_mf.draft import label_keys, text
from sevennet_mf.draft import plan as plans
from sevennet_mf.draft.levels import Level, levels_of
from sevennet_mf.draft.plan import Draft
from sevennet_mf.draft.size import Size, batch_for, size_for
from sevennet_mf.draft.timing import seconds_per_step
from sevennet_mf.errors import UserError, said_as
from sevennet_mf.kernels import library

TRAIN: Final[str] = 'load_trainset_path'
OPTIONS: Final = {
    compatible.KNOWN_AS: '--known_as',
    compatible.WHERE: '--from',
}


def run(args: Namespace) -> Iterator[RenderableType]:
    """Write the YAML; yield what to show, as soon as it is known.

    Raises:
        UserError: If a file cannot be used, or if the output already exists.
    """
    library.check_environment(is_used=True)
    if os.path.exists(args.output) and not args.force:
        raise UserError(
            f'{args.output} already exists. Choose another file with -o, or '
            'overwrite it with --force.'
        )
    if not args.hours > 0:
        raise UserError(f'--hours must be greater than 0, got {args.hours}.')
    plan, audit = _audited(_plan(args), args.output)
    yield inspect.table(audit)
    size = _size(plan, audit, args.hours)
    written = text.text_of(plan, size, audit, _command(args), args.output)
    # as training will read it
    inputs.read(yaml.safe_load(written), opened=plan.origin)
    files.write_text(args.output, written)
    yield '\n'.join(_said(args, plan, size, audit))


def _plan(args: Namespace) -> Draft:
    levels, valid = levels_of(args.files), levels_of(args.valid or ())
    named = label_keys.given([*levels, *valid], vars(args))
    whole = [label_keys.completed(level) for level in named]
    levels, valid = whole[: len(levels)], whole[len(levels) :]
    if args.checkpoint is None:
        if args.known_as is not None:
            raise UserError(
                f'--known_as {args.known_as} needs a checkpoint: name one with '
                '--from, or remove --known_as.'
            )
        return plans.from_scratch(levels, valid)
    with said_as(OPTIONS):
        return plans.from_checkpoint(args.checkpoint, args.known_as, levels, valid)


def _audited(plan: Draft, output: str) -> tuple[Draft, Audit]:
    """Return the audit, and the plan with the share for validation that it needs."""
    audit = _audit(plan, output)
    count = text.counts_of(plan, audit).get(TRAIN, {}).get(plan.target, 0)
    share = plans.ratio_for(count)
    if plan.valid or share == plan.share:
        return plan, audit
    # few structures: the audit has to describe the validation set of the YAML
    plan = replace(plan, share=share)
    return plan, _audit(plan, output)


def _audit(plan: Draft, output: str) -> Audit:
    """The audit, with advice that names options instead of keys."""
    audit = inspect.audit_of(plan.sections(), output, plan.origin)
    said = [replace(p, message=_worded(p.message, plan)) for p in audit.problems]
    return replace(audit, problems=said)


def _worded(text: str, plan: Draft) -> str:
    """A message about a file, with options instead of the keys of its entry."""
    own = [level.name for level in plan.all_levels if _is_of(level, text)]
    name = f'{own[0]}=' if own and len(plan.levels) > 1 else ''
    return in_options(text, label_keys.OPTIONS, name)


def _is_of(level: Level, message: str) -> bool:
    return message.startswith(tuple(f'{file}:' for file in level.files))


def _size(plan: Draft, audit: Audit, hours: float) -> Size:
    """A model and a run for the structures that the audit found."""
    counts = text.counts_of(plan, audit).get(TRAIN, {})
    for problem in audit.problems:
        if problem.kind == 'unread':  # at which training stops
            raise UserError(problem.message)
    for level in plan.levels:
        if not counts.get(level.name):
            own = (p.message for p in audit.problems if _is_of(level, p.message))
            why = next(own, 'see the audit above.')
            raise UserError(
                f'{level.files[0]} has no structure that can be used: {why}'
            )
    named = [level.name for level in plan.levels]
    used = [plan.target] if plan.origin is not None else named
    sets = [s for s in audit.sets if s.set == 'trainset' and s.fidelity in named]
    structures = sum(counts[name] for name in used)
    atoms = sum(s.atoms for s in sets) / sum(s.structures for s in sets)
    is_continued = plan.origin is not None
    batch = batch_for(structures, atoms, is_continued)

    def time_of(channels: int | None) -> float:
        sections = copy.deepcopy(plan.sections())
        sections['data']['batch_size'] = batch
        if channels is not None:
            sections['model']['channel'] = channels
        return seconds_per_step(sections, counts, plan.origin)

    return size_for(structures, batch, hours, time_of, is_continued)


def _said(
    args: Namespace, plan: Draft, size: Size, audit: Audit
) -> Iterator[str]:
    model = f'{size.channels} channels' if plan.origin is None else 'the checkpoint'
    yield (
        f'{args.output}: {model}, {size.steps} steps of {size.batch} structures, '
        f'{text.about(size.hours)} on this machine.'
    )
    for level in plan.all_levels:
        if level.taken:
            yield (
                f'{level.name}: {level.keys_as_text()}, by their names in '
                f'{" ".join(level.files)}. Check that these are the right labels.'
            )
    if any(plans.shares_file(level, plan.levels) for level in plan.levels):
        order = ', '.join(level.name for level in plan.levels)
        yield f'Levels of one file: check that {order} is from low to high.'
    if size.is_short:
        yield (
            'This is less than the measured recipe: allow more --hours if you can.'
        )
    if audit.has_problems:
        yield 'Solve the problems above first.'
    yield f'sevennet-mf train {args.output} -w run'


def _command(args: Namespace) -> list[str]:
    words: list[Any] = ['init', *args.files]
    given = {'--from': args.checkpoint, '--known_as': args.known_as}
    for option, value in given.items():
        words += [option, value] if value is not None else []
    for name in label_keys.OPTIONS:
        for value in getattr(args, name) or ():
            words += [f'--{name}', value]
    words += ['--valid', *args.valid] if args.valid else []
    return [str(word) for word in (*words, '--hours', f'{args.hours:g}')]
