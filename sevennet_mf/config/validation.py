"""What a block of the YAML may contain, and one-line errors for what it may not."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
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


def as_list(value: Any) -> Any:
    """Return a word that stands alone as a list of it."""
    return [value] if isinstance(value, str) else value


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
Share = Annotated[
    float, BeforeValidator(not_bool), Field(gt=0, lt=1, allow_inf_nan=False)
]


class Block(BaseModel):
    """A block of the YAML: unknown keys are errors."""

    model_config = ConfigDict(extra='forbid')


AnyBlock = TypeVar('AnyBlock', bound=Block)

# keys of earlier versions: (block, key) -> why it was removed
REMOVED: Final[dict[tuple[str, str], str]] = {
    ('train.fidelity', 'paired_weight'): 'a term of the loss on paired differences '
    'never gave smaller errors than inferred labels, and larger ones for molecules',
}

# pydantic's words, and those of YAML users
PLAIN_WORDS = {
    'Input should be': 'must be',
    ', unable to parse string as a number': '',
    ', unable to parse string as an integer': '',
    ', got a number with a fractional part': '',
    'List should have at least 1 item after validation, not 0': 'must not be empty',
    'must be None': 'must be `null`',
    'a valid dictionary': 'a block of keys',
    'a valid integer': 'a whole number',
    'a valid list': 'a list',
    'a valid number': 'a number',
    'a valid string': 'text',
}


def validate(block: type[AnyBlock], values: Any, where: str) -> AnyBlock:
    """Return `values` as a `block`.

    Args:
        where: its path in the YAML, for errors.

    Raises:
        UserError: One line that names the key, the value and the nearest key.
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

    Raises UserError for a removed key that would change the training, and warns of
    one that is off.
    """
    gone = {name: why for (at, name), why in REMOVED.items() if at == where}
    for name in values.keys() & gone.keys():
        what = f'was removed: {gone[name]}. Remove the key.'
        if values[name]:
            raise UserError(what, f'{where}.{name}')
        warnings.warn(f'{where}.{name} {what}', UserWarning, stacklevel=3)
    return {name: value for name, value in values.items() if name not in gone}


def _plain(error: ValidationError, block: type[Block], where: str) -> UserError:
    """The error in the words of YAML users."""
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
    """Return the blocks in a type: A and B of `dict[str, A] | B`."""
    if isinstance(kind, type) and issubclass(kind, Block):
        return [kind]
    return [block for part in get_args(kind) for block in blocks_in(part)]


def _most_telling(error: ValidationError) -> ErrorDetails:
    """The one of a union's errors that is about what the user meant to write."""
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
