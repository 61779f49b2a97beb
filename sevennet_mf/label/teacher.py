"""Who labels: an ASE calculator by its import path, or a checkpoint's fidelities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sevennet_mf.checkpoint.file import read_checkpoint
from sevennet_mf.checkpoint.origin import names_in
from sevennet_mf.config import yaml_file
from sevennet_mf.config.blocks import NAME_PATTERN, RESERVED_NAMES
from sevennet_mf.errors import UserError, unknown
from sevennet_mf.files import sha256_of
from sevennet_mf.label.calculators import imported
from sevennet_mf.label.exchange import Teacher, is_import_path
from sevennet_mf.model.load import UNNAMED

Options = dict[str, Any]

# of a checkpoint; the others change who labels
DEVICES: Final[tuple[str, ...]] = (
    'device',
    'enable_cueq',
    'enable_flash',
    'enable_oeq',
)

# what `sevennet-mf hull` adds to a record: whether structures are as they were given
RELAXATION: Final[str] = 'relaxation'


def record_of(teacher: Teacher, name: str) -> Options:
    """Return what the labels of a fidelity depend on, to compare with later."""
    if teacher.is_calculator:
        # as they are read back: with text for numbers as keys, tuples and dates
        arguments = json.loads(json.dumps(teacher.arguments, default=str))
        return {'with': teacher.told, 'arguments': arguments}
    path, _ = read_checkpoint(teacher.told)
    return {
        'with': teacher.told,
        'fidelity': teacher.names[name],
        'sha256': sha256_of(path),
    }


def same_teacher(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two records are of the same labels."""
    if one.get(RELAXATION) != other.get(RELAXATION):
        return False
    if 'sha256' in one and 'sha256' in other:  # wherever the file lies
        return all(one[k] == other[k] for k in ('sha256', 'fidelity'))
    return all(one.get(k) == other.get(k) for k in ('with', 'arguments', 'sha256'))


def teacher_of(
    told: str,
    fidelities: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Teacher:
    """Return the teacher for what the command line says.

    Args:
        told: As of `--with`.
        fidelities: Names in the files, or `NAME=FIDELITY` with the checkpoint's own
            name; None: all of the checkpoint.
        arguments: Keywords of the calculator.
        trust: Read a checkpoint that runs code.

    Returns:
        What `label` takes.

    Raises:
        UserError: There is no such calculator, checkpoint or fidelity.
    """
    arguments = dict(arguments or {})
    if is_import_path(told):
        imported(told)  # now, not in each process
        return Teacher(told, _one_name(told, fidelities), arguments)
    for name in arguments:
        if name not in DEVICES:
            raise unknown('--arguments of a checkpoint', name, DEVICES)
    try:
        path, content = read_checkpoint(told)
    except UserError as error:
        raise UserError(
            f'{error} A calculator is given as module:name, such as '
            'ase.calculators.emt:EMT.',
            where='--with',
        ) from None
    own = names_in(content['config']) or (UNNAMED,)
    return Teacher(told, _names(path, own, fidelities), arguments, trust)


def _names(
    path: str, own: Sequence[str], told: Sequence[str] | None
) -> dict[str, str]:
    """Names in the files -> those of a checkpoint."""
    if len(own) == 1:
        pairs = [_pair(name, own[0]) for name in told or own]
    else:
        pairs = [_pair(name) for name in told or own]
    for name, theirs in pairs:
        if theirs not in own:
            remedy = f'These are the fidelities of {path}.'
            raise unknown('--fidelity', theirs, own, remedy)
        if name == UNNAMED:
            raise UserError(
                f'{path} does not name its level of theory. Name it with -f, as in '
                '-f pbe.'
            )
    return _each_once(pairs)


def _pair(told: str, theirs: str = '') -> tuple[str, str]:
    """(name in the files, name in the checkpoint) of NAME or NAME=FIDELITY."""
    name, equals, own = told.partition('=')
    return _checked(name), own if equals else theirs or name


def _checked(name: str) -> str:
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(
            f'--fidelity {name!r} is used as the name of a file, so it must consist '
            'of letters, digits and _ . + -'
        )
    if name.lower() in RESERVED_NAMES:
        raise UserError(
            f'--fidelity {name!r}: no fidelity that is trained can have this name. '
            f'Choose another one: {", ".join(RESERVED_NAMES)} are reserved.'
        )
    return name


def _each_once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    names = dict(pairs)
    if len(names) < len(pairs):
        twice = next(n for n, _ in pairs if [m for m, _ in pairs].count(n) > 1)
        raise UserError(f'--fidelity {twice} is given twice. Leave one of them out.')
    return names


def _one_name(told: str, fidelities: Sequence[str] | None) -> dict[str, str]:
    if fidelities is None or len(fidelities) != 1 or '=' in fidelities[0]:
        raise UserError(
            f'--with {told} is one level of theory. Name it with -f, as in -f pbe; '
            'another call adds another level.'
        )
    return {_checked(fidelities[0]): ''}


def arguments_of(told: str | None) -> Options:
    """Return the arguments of a calculator: YAML, JSON, or the name of such a file.

    Raises:
        UserError: It is not a block of keywords.
    """
    if told is None:
        return {}
    if told.endswith(('.yaml', '.yml', '.json')):
        found, where = yaml_file.load(told), told
    else:
        found, where = yaml_file.parse(told, '--arguments'), '--arguments'
    if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
        raise UserError(
            f'{where} must be keywords with their values, as in '
            f"'{{xc: PBE, kpts: [2, 2, 2]}}', got {told!r}."
        )
    return found
