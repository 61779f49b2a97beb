"""The YAML as text, with comments on what a reader may want to change."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from sevennet_mf.audit.summary import Audit
from sevennet_mf.audit.training_set import VALID
from sevennet_mf.config.recipe import CONTINUED, FROM_SCRATCH
from sevennet_mf.data.dataset import TRAIN
from sevennet_mf.draft.plan import COPIES, Draft
from sevennet_mf.draft.size import Size

COLUMN: Final[int] = 40  # where comments begin


def text_of(
    plan: Draft, size: Size, audit: Audit, command: Sequence[str], output: str
) -> str:
    """Return the text of a training YAML.

    Args:
        command: Words of the command line that asked for it.
        output: Path that the text will be written to.
    """
    lines = [*_head(audit, command, output)]
    if plan.origin is None:
        lines += _model(plan, size, audit)
    lines += [*_train(plan, size), *_data(plan, size, audit)]
    return '\n'.join(lines) + '\n'


def hours_as_text(hours: float) -> str:
    """Return a duration as `12 minutes` or `3.5 hours`."""
    minutes = 60 * hours
    if minutes < 1:
        return 'less than a minute'
    if minutes < 90:
        count = round(minutes)
        return f'{count} minute{"" if count == 1 else "s"}'
    return f'{hours:.1f} hours'


def about(hours: float) -> str:
    """Return `hours_as_text` for an estimate: `about 12 minutes`."""
    text = hours_as_text(hours)
    return text if text.startswith('less') else f'about {text}'


def found_by(audit: Audit) -> str:
    """Return `1 problem and 2 notes`, or '' if there are none."""
    problems = sum(p.severity == 'problem' for p in audit.problems)
    counts = {'problem': problems, 'note': len(audit.problems) - problems}
    return ' and '.join(
        f'{n} {word}{"" if n == 1 else "s"}' for word, n in counts.items() if n
    )


def _head(audit: Audit, command: Sequence[str], output: str) -> Iterator[str]:
    yield f'# sevennet-mf {shlex.join(command)}'
    yield '#'
    yield f'#     sevennet-mf train {shlex.quote(output)} -w run'
    yield '#'
    yield '# Loss, weights, optimiser and schedule are the defaults, which the log'
    yield '# of the training lists. File names are relative to the current folder.'
    found = found_by(audit)
    if found:
        yield f'# The audit found {found}: sevennet-mf inspect {shlex.quote(output)}'


def _model(plan: Draft, size: Size, audit: Audit) -> Iterator[str]:
    model = plan.sections()['model']
    elements = sorted({symbol for own in audit.sets for symbol in own.elements})
    yield 'model:'
    yield _line(f'  chemical_species: {_flow(elements)}', 'all elements in the data')
    yield _line(f'  cutoff: {model["cutoff"]}', 'Å')
    yield _line(f'  channel: {size.channels}', 'the size: 16, 32, 64, 128')
    for name, value in model.items():
        if name not in ('cutoff', 'channel', 'fidelity'):
            yield f'  {name}: {_flow(value)}'
    yield '  fidelity:'
    yield _line('    encoding: bias', 'weights per fidelity: bias, gain, lora')


def _train(plan: Draft, size: Size) -> Iterator[str]:
    recipe = FROM_SCRATCH if plan.origin is None else CONTINUED
    yield 'train:'
    yield '  random_seed: 1'
    took = f'{size.seconds:.2g} s per step here, {hours_as_text(size.hours)} in all'
    yield _line(f'  epoch: {size.epochs}', f'{size.steps} steps; {took}')
    if size.is_short:
        usual = recipe.epochs * recipe.least_steps
        needed = hours_as_text(usual * size.seconds / 3600)
        yield (
            f'  # The shortest run that was measured has {usual} steps, which take '
            f'{needed}'
        )
    own = plan.sections()['train']['fidelity']
    if plan.origin is not None:
        yield '  continue:'
        yield _line(
            f'    checkpoint: {_flow(plan.origin.name)}',
            'defines the model and its elements',
        )
    yield '  fidelity:'
    if 'known_as' in own:
        known_as = _flow(own['known_as'])
        yield _line(f'    known_as: {known_as}', 'level it was trained on')
    target = _flow(own['target'])
    yield _line(f'    target: {target}', 'its errors select the best epoch')
    if 'start_from' in own:
        yield f'    start_from: {_flow(own["start_from"])}'
    yield f'    steps_per_epoch: {size.steps_per_epoch}'
    if plan.replay is not None:
        yield _line(
            f'    replay: {_flow(own["replay"])}', 'so that it is not forgotten'
        )
    elif plan.origin is not None:
        yield '    replay:'
        yield _line('      self_label:', 'so that its level is not forgotten;')
        yield _line(
            f'        per_structure: {COPIES}', 'better: a file with labels of it'
        )


def _data(plan: Draft, size: Size, audit: Audit) -> Iterator[str]:
    sections = plan.sections()['data']
    counts = counts_of(plan, audit)
    yield 'data:'
    yield _line(f'  batch_size: {size.batch}', 'structures per step')
    if not plan.valid:
        yield _line(
            f'  data_divide_ratio: {plan.share}', 'of each fidelity, for validation'
        )
    if 'fidelity' in sections:
        yield '  fidelity:'
        order = _flow(sections['fidelity']['order'])
        yield _line(f'    order: {order}', 'low to high')
    if any(level.taken for level in plan.all_levels):
        yield '  # The *_key names were found in the files: check them'
    for load in ('load_trainset_path', 'load_validset_path'):
        if load in sections:
            yield f'  {load}:'
            for entry in sections[load]:
                named = entry.get('fidelity')
                own = counts[load]
                structures = (
                    sum(own.values()) if named is None else own.get(named, 0)
                )
                yield _line(f'    - {_flow(entry)}', f'{structures} structures')


def counts_of(plan: Draft, audit: Audit) -> Mapping[str, Mapping[str, int]]:
    """Return the number of structures of each fidelity in each `load_*_path`.

    Structures that the audit split off for validation count for the training files
    that they come from.
    """
    found: dict[str, dict[str, int]] = {}
    for own in audit.sets:
        is_share = own.set == VALID and not plan.valid
        by_name = found.setdefault(f'load_{TRAIN if is_share else own.set}_path', {})
        by_name[own.fidelity] = by_name.get(own.fidelity, 0) + own.structures
    return found


def _line(code: str, comment: str) -> str:
    return f'{code:<{COLUMN}}  # {comment}'


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, sort_keys=False,
        allow_unicode=True,
    )
    return text.strip().removesuffix('...').strip()
