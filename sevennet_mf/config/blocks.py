"""The `fidelity` blocks of the YAML as pydantic models.

The reference page in docs/ is generated from the descriptions in this file.
"""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from sevennet_mf.errors import UserError, nearest

# 'common' is what the potential with theta_T = 0 is called
RESERVED_NAMES = ('common', 'total', 'all')
NAME_PATTERN = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]*')


def not_bool(value: Any) -> Any:
    if isinstance(value, bool):  # a bool is an int in Python: `yes` would be 1.0
        raise ValueError('must be a number')
    return value


def _a_name(value: Any) -> Any:
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise ValueError(
            'a fidelity name is a quoted word of letters, digits and _ . + -'
        )
    if value.lower() in RESERVED_NAMES:
        raise ValueError(f'{value!r} is reserved: {", ".join(RESERVED_NAMES)}')
    return value


Name = Annotated[str, BeforeValidator(_a_name)]
Positive = Annotated[
    float, BeforeValidator(not_bool), Field(gt=0, allow_inf_nan=False)
]
NonNegative = Annotated[
    float, BeforeValidator(not_bool), Field(ge=0, allow_inf_nan=False)
]
Count = Annotated[int, BeforeValidator(not_bool), Field(ge=1)]
Energy = Annotated[float, BeforeValidator(not_bool), Field(allow_inf_nan=False)]
Site = Literal[
    'self_interaction_1', 'self_interaction_2', 'output', 'node_embedding'
]


class Block(BaseModel):
    """A block of the YAML: unknown keys are errors."""

    model_config = ConfigDict(extra='forbid')


class ModelFidelity(Block):
    """`model.fidelity`: how weights depend on the fidelity."""

    encoding: Literal['bias', 'gain', 'lora'] = Field(
        'bias',
        description='Form of the fidelity-owned weights. `bias`: y = W x + b_f (as '
        'in the paper; files are plain SevenNet multi-modal checkpoints). `gain`: '
        'y = (1 + g_f) (W x) + b_f. `lora`: y = (W + A_f B_f) x + b_f.',
    )
    rank: Count = Field(
        4, description='Rank r of A_f B_f within each irrep; used by `lora` only.'
    )
    sites: list[Site] = Field(
        ['self_interaction_1', 'self_interaction_2', 'output'],
        min_length=1,
        description='Linear layers that get fidelity-owned weights: those before '
        'and after each convolution, the first layer of the readout, and the '
        'embedding of the atom types.',
    )
    scale: Literal['shared', 'per_fidelity'] = Field(
        'shared',
        description='One energy scale shared by all fidelities, or one per '
        'fidelity. The atomic energy shift is always per fidelity.',
    )

    @field_validator('sites')
    @classmethod
    def _each_once(cls, sites: list[str]) -> list[str]:
        return list(dict.fromkeys(sites))


class ComponentWeight(Block):
    """Loss weights of one fidelity, by label."""

    energy: Positive = Field(1.0, description='Weight of the energies.')
    force: Positive = Field(1.0, description='Weight of the forces.')
    stress: Positive = Field(1.0, description='Weight of the stresses.')


Share = Annotated[
    float, BeforeValidator(not_bool), Field(gt=0, lt=1, allow_inf_nan=False)
]
Files = str | Annotated[list[str], Field(min_length=1)]


class Dynamics(Block):
    """Copies drawn from a molecular dynamics run."""

    temperature: Positive = Field(description='Temperature (K).')
    steps: Count = Field(
        50, description='Number of 1 fs steps between two structures that are kept.'
    )


class SelfLabel(Block):
    """Structures that the pretrained model labels itself."""

    structures: Files | None = Field(
        None,
        description='Files with structures; labels in them are not read. Default: '
        'those of the trained fidelities in `load_trainset_path`.',
    )
    per_structure: Annotated[int, BeforeValidator(not_bool), Field(ge=0)] = Field(
        20,
        description='Number of modified copies of each structure, in addition '
        'to the structure itself.',
    )
    rattle: NonNegative = Field(
        0.05,
        description='Standard deviation of the random displacement of each '
        'coordinate (Å).',
    )
    strain: Annotated[NonNegative, Field(lt=0.5)] = Field(
        0.03,
        description='Largest component of the random symmetric strain; structures '
        'without a cell are not strained.',
    )
    md: Dynamics | None = Field(
        None,
        description='Draw the copies from Langevin dynamics with the pretrained '
        'model instead; `rattle` and `strain` then determine where it starts.',
    )


class MaxDrift(Block):
    """How much worse an old fidelity may become, on the held-out part."""

    energy: Positive | None = Field(
        None, description='Growth of the mean absolute error, meV/atom.'
    )
    force: Positive | None = Field(
        None, description='Growth of the mean absolute error, meV/Å.'
    )


class DataEntry(Block):
    """One entry of a `load_*_path` list."""

    file: Files = Field(
        description='A file that ASE can read, a SevenNet graph file (`.pt`), a '
        '`structure_list`, a pattern with `*` or `{a,b}`, or a list of these.'
    )
    fidelity: Name | None = Field(
        None,
        description='Fidelity of all structures in the file. Default: read '
        'from each structure with `data.fidelity.key`.',
    )
    energy_key: str | None = Field(
        None,
        description='Key of `atoms.info` that holds the total energy (eV). '
        'Default: the energy that ASE reads, or the free energy if there is one.',
    )
    force_key: str | None = Field(
        None,
        description='Key of `atoms.arrays` that holds the forces (eV/Å); `null`: '
        'no forces. Default: the forces that ASE reads.',
    )
    stress_key: str | None = Field(
        None,
        description='Key of `atoms.info` that holds the stress (eV/Å^3, ASE sign '
        'and order); `null`: no stress. Default: the stress that ASE reads.',
    )
    virial_key: str | None = Field(
        None,
        description='Used instead of `stress_key`: key of `atoms.info`, or of '
        '`atoms.arrays` to be summed over the atoms, that holds the virial (eV): '
        '-V times the stress in ASE sign and order, positive under compression. '
        '`null`: ignore virials in the file.',
    )
    index: str = Field(
        ':',
        description="Frames to read from each file, in ASE's syntax; for an ASE "
        'database also a query.',
    )
    format: str | None = Field(
        None,
        description='ASE name of the file format, if it cannot be recognised '
        'from the file name.',
    )

    @field_validator('index', mode='before')
    @classmethod
    def _as_text(cls, index: Any) -> Any:
        is_number = isinstance(index, int) and not isinstance(index, bool)
        return str(index) if is_number else index

    @model_validator(mode='after')
    def _one_stress(self) -> DataEntry:
        if self.stress_key is not None and self.virial_key is not None:
            raise ValueError(
                'stress_key and virial_key both give the stress; take one out'
            )
        return self


class Replay(DataEntry):
    """Data of the old fidelities; as an entry of `load_trainset_path`, or self
    labels."""

    file: Files | None = Field(  # type: ignore[assignment]
        None,
        description='Files with labelled structures, as in `load_trainset_path`.',
    )
    fidelity: Name | None = Field(
        None,
        description='The old fidelity to which they belong. Default: `start_from` '
        'for a file, all old fidelities for self labels.',
    )
    self_label: SelfLabel | None = Field(
        None,
        description='Used instead of a file: structures that the checkpoint labels.',
    )
    held_out: Share = Field(
        0.1,
        description='Share that is never trained on; the drift is measured on it.',
    )

    @model_validator(mode='after')
    def _one_of_both(self) -> Replay:
        if (self.file is None) == (self.self_label is None):
            raise ValueError('needs either `file` or `self_label`')
        return self


class TrainFidelity(Block):
    """`train.fidelity`: what the fidelities count for in training."""

    target: Name | None = Field(
        None,
        description='The fidelity that you want the potential for: its metric '
        'selects the best checkpoint and drives the scheduler. Default: the last '
        'of `order`.',
    )
    loss_weight: (
        dict[Name, Positive | ComponentWeight] | Literal['balanced']
    ) = Field(
        default_factory=dict,
        description='Weight of each fidelity in the loss: one number, or one each '
        'for `energy`, `force` and `stress`. Fidelities that are left out have '
        'weight 1. `balanced`: every fidelity has the same total weight, however '
        'many structures it has.',
    )
    sampling: dict[Name, Positive] | Literal['proportional', 'balanced'] = Field(
        'proportional',
        description='How batches are drawn. `proportional`: each structure once '
        'per epoch. `balanced`: equal shares of each fidelity; the default beside '
        'a `replay` without `loss_weight`. Or shares, as in `{pbe: 3, r2scan: 1}`.',
    )
    steps_per_epoch: Count | None = Field(
        None,
        description='Optimiser steps per epoch, however many structures there are. '
        'Useful to compare runs on different data, or for few structures that need '
        'no validation after each pass. Default: the number of steps that process '
        'as many structures as there are computed labels.',
    )
    regularization: NonNegative = Field(
        1.0e-6,
        description='L2 penalty on the effective fidelity-owned weights only '
        '(lambda_R).',
    )
    known_as: Name | None = Field(
        None,
        description='With `continue` from a checkpoint with one fidelity: the name '
        'of that fidelity from now on. Names in the data that the checkpoint does '
        'not have are added to it.',
    )
    start_from: Name | None = Field(
        None,
        description='The fidelity of the checkpoint from which added fidelities '
        'start. Default: the base.',
    )
    update: Literal['all', 'fidelity_only'] = Field(
        'all',
        description='Which weights are trained: `all`, or only those that the '
        'added fidelities own (if none is added: those of the target). '
        '`fidelity_only` leaves all other weights exactly as they were.',
    )
    replay: Replay | None = Field(
        None,
        description="Data of the checkpoint's fidelities that are trained on as "
        'well, so that it does not forget them: a file, or labels from the '
        'checkpoint itself.',
    )
    max_drift: MaxDrift | None = Field(
        None,
        description='Limit on how much worse an old fidelity may become in the '
        'best checkpoint, measured on the held-out part of the replay.',
    )
    checkpoint_every: Count = Field(
        500,
        description='Optimiser steps between resumable checkpoints, and so the '
        'most that a `kill -9` can lose.',
    )


class DataFidelity(Block):
    """`data.fidelity`: the fidelities and their reference energies."""

    order: list[Name] | None = Field(
        None,
        min_length=1,
        description='The fidelities from low to high. Default: the order in which '
        '`load_trainset_path` names them. Required with `key`.',
    )
    base: Name | None = Field(
        None,
        description='The fidelity whose reference energies the others are fitted '
        'against. Default: the first of `order`.',
    )
    reference_energies: (
        Literal['aligned', 'independent'] | dict[Name, dict[str, Energy]]
    ) = Field(
        'aligned',
        description='Energy of each element at each fidelity, subtracted before '
        'training. `aligned`: fitted to the differences from the base. '
        '`independent`: fitted to each fidelity alone. Or values in eV for some '
        'elements, as in `{r2scan: {In: -3.1}}`; the others are aligned.',
    )
    inferred_labels: Literal['auto', 'always', 'never'] = Field(
        'auto',
        description='Infer labels of the target for structures of lower '
        'fidelities: their own label plus a two-body difference fitted to paired '
        'structures, starting from the nearest fidelity. `auto`: only from '
        'fidelities whose paired structures, when left out of the fit, are '
        'predicted well enough.',
    )
    key: str | None = Field(
        None,
        description="Read each structure's fidelity from this key of its "
        '`atoms.info`, or of the `key_value_pairs` of an ASE database.',
    )
    about: dict[Name, dict[str, str | int | float | bool | None]] = Field(
        default_factory=dict,
        description='Free notes on each level of theory (functional, '
        'pseudopotentials, dispersion), kept in every checkpoint.',
    )

    @field_validator('order')
    @classmethod
    def _no_repeats(cls, order: list[str] | None) -> list[str] | None:
        if order and len(set(order)) < len(order):
            raise ValueError('names must differ')
        return order


AnyBlock = TypeVar('AnyBlock', bound=Block)

# keys of earlier versions: (block, key) -> why there is none any more
REMOVED: Final[dict[tuple[str, str], str]] = {
    ('train.fidelity', 'paired_weight'): 'a term of the loss on paired differences '
    'never gave smaller errors than inferred labels, and larger ones for molecules',
}

# pydantic's words, and those of somebody who writes YAML
PLAIN_WORDS = {
    'Input should be': 'must be',
    ', unable to parse string as a number': '',
    ', unable to parse string as an integer': '',
    ', got a number with a fractional part': '',
    'List should have at least 1 item after validation, not 0': 'must not be empty',
    'a valid dictionary': 'a block of keys',
    'a valid integer': 'a whole number',
    'a valid list': 'a list',
    'a valid number': 'a number',
    'a valid string': 'a text',
}


def validate(block: type[AnyBlock], values: Any, where: str) -> AnyBlock:
    """Return `values` as a `block`; `where` is its path in the YAML, for errors.

    Raises UserError: one line that names the key, the value and the nearest key.
    """
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f'must be a block of keys, got {values!r}.', where)
    values = _without_removed(values, where)
    try:
        return block.model_validate(values)
    except ValidationError as error:
        raise _plain(error, block, where) from None


def _without_removed(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The keys of a block that still exist.

    UserError for one that does not and would change the training; a warning where
    it was off.
    """
    gone = {name: why for (at, name), why in REMOVED.items() if at == where}
    for name in values.keys() & gone.keys():
        what = f'was removed: {gone[name]}. Remove the key.'
        if values[name]:
            raise UserError(what, f'{where}.{name}')
        warnings.warn(f'{where}.{name} {what}', UserWarning, stacklevel=3)
    return {name: value for name, value in values.items() if name not in gone}


def _plain(error: ValidationError, block: type[Block], where: str) -> UserError:
    """The error in the words of somebody who writes YAML."""
    first = _most_telling(error)
    # tags such as 'dict[...]' or 'constrained-str' are pydantic's, not the user's
    path = [str(p) for p in first['loc'] if isinstance(p, int) or _is_typed(p)]
    key = '.'.join([where, *path])
    if first['type'] == 'extra_forbidden':
        known = list(_block_at(block, first['loc'][:-1]).model_fields)
        hint = nearest(path[-1], known)
        text = f'is not a known key.{hint} Known: {", ".join(known)}.'
        return UserError(text, key)
    if first['type'] == 'missing':
        return UserError('is missing.', key)
    message = first['msg'].removeprefix('Value error, ')
    message = re.sub(r' or instance of \w+', '', message)
    for theirs, ours in PLAIN_WORDS.items():
        message = message.replace(theirs, ours)
    given = first['input']
    words = re.findall(r"'(\w+)'", message) if 'literal' in first['type'] else []
    hint = nearest(str(given), words) if isinstance(given, str) else ''
    return UserError(f': {message}, got {given!r}.{hint}', key)


def _block_at(block: type[Block], path: tuple[int | str, ...]) -> type[Block]:
    """The block that `path` leads to from `block`."""
    inner = blocks_in(block)
    for part in path:
        field = block.model_fields.get(str(part))
        if field is not None:
            inner = blocks_in(field.annotation)
        block = inner[0] if inner else block
    return block


def blocks_in(kind: Any) -> list[type[Block]]:
    """Return the blocks that a type is made of: those of `dict[str, A] | B`."""
    if isinstance(kind, type) and issubclass(kind, Block):
        return [kind]
    return [block for part in get_args(kind) for block in blocks_in(part)]


def _most_telling(error: ValidationError) -> ErrorDetails:
    """Of a union's errors the one about what the user meant to write."""
    errors = error.errors(include_url=False)
    misspelt = [e for e in errors if e['type'] == 'extra_forbidden']
    words = [
        e
        for e in errors
        if e['type'] == 'literal_error' and isinstance(e['input'], str)
    ]
    return max(misspelt or words or errors, key=lambda e: len(e['loc']))


def _is_typed(part: str) -> bool:
    return part not in ('ComponentWeight', 'str') and not re.search(r'[\[\(]', part)
