"""Messages about the entry of a file, for who typed options instead of a YAML."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

from sevennet_mf.config.entry import DataEntry
from sevennet_mf.errors import UserError

# options of `evaluate` that are keys of an entry
ENTRY: Final = tuple(name for name in DataEntry.model_fields if name != 'file')
# what only a YAML has
YAML_ONLY: Final[dict[str, str]] = {
    ' in the entries of load_trainset_path': '',
    ' in the entry': '',
    ' in its entry': '',
    '; train.fidelity.loss_weight weighs a fidelity': '',
    'data.fidelity.key': '`--key`',
    'must be `null`': 'must be `none`',
}
NUMBERED: Final = re.compile(r'entry \d+ of the data(?:\.(\w+)|: )')


def without_entry(text: str) -> str:
    """Return a message about a file for which nobody can write an entry."""
    text = text.replace(', its `index` or its `format`, or', ', or')
    return re.sub(r'Write `\w+:` .*', 'Convert it to extended XYZ.', text)


def in_options(text: str, options: Collection[str], level: str = '') -> str:
    """Return a message with options in the place of the keys of an entry.

    Args:
        text: The message.
        options: Keys that are options of the command.
        level: What stands before a value, as 'pbe='.

    Returns:
        The same message if there are no options.
    """
    if not options:
        return text
    for old, new in YAML_ONLY.items():
        text = text.replace(old, new)
    text = NUMBERED.sub(lambda found: f'--{found[1]}' if found[1] else '', text)
    names = '|'.join(options)
    text = re.sub(rf'`({names}): null`', rf'`--\1 {level}none`', text)
    text = re.sub(rf'`({names}): ', rf'`--\1 {level}', text)
    text = re.sub(rf'`({names}):?`', r'`--\1`', text)
    # without backticks, if it is no usual word
    words = '|'.join(name for name in options if '_' in name)
    text = re.sub(rf'(?<![-\w`.])({words})\b', r'--\1', text)
    return text if 'format' in options else without_entry(text)


@contextmanager
def said_in_options(options: Collection[str]) -> Iterator[None]:
    """Within, errors about the entry of a file name options instead."""
    try:
        yield
    except UserError as error:
        raise type(error)(in_options(str(error), options)) from None
