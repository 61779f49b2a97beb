"""What is said to somebody who typed options names options, not keys of a YAML."""

from __future__ import annotations

import pytest

from sevennet_mf.config.option_words import (
    ENTRY,
    in_options,
    said_in_options,
    without_entry,
)
from sevennet_mf.errors import UserError


@pytest.mark.parametrize(
    ('said', 'wanted'),
    [
        (
            'entry 1 of the data.energy_unit: must be a unit',
            '--energy_unit: must be a unit',
        ),
        ('entry 1 of the data: no such file: x.', 'no such file: x.'),
        (
            'Correct force_key, or write `force_key: null` if there are none.',
            'Correct --force_key, or write `--force_key none` if there are none.',
        ),
        ("energy_key 'E' is not in its", "--energy_key 'E' is not in its"),
        (
            'Write `energy_key: <key>`, or `energy_key:` with a key.',
            'Write `--energy_key <key>`, or `--energy_key` with a key.',
        ),
        (
            'Correct the file, its `index` or its `format`, or remove it.',
            'Correct the file, its `--index` or its `--format`, or remove it.',
        ),
        (
            'Write `fidelity: <name>` in its entry, or the name under '
            'data.fidelity.key in its info.',
            'Write `--fidelity <name>`, or the name under `--key` in its info.',
        ),
        ('the index and format of a file', 'the index and format of a file'),
        ('it has no --energy_key', 'it has no --energy_key'),
    ],
)
def test_keys_become_options(said: str, wanted: str) -> None:
    assert in_options(said, ENTRY) == wanted
    assert in_options(said, ()) == said  # of a YAML


def test_the_level_that_an_option_is_for() -> None:
    said = '`force_key: null` or `force_key: F`, and `energy_unit: eV`'
    wanted = '`--force_key pbe=none` or `--force_key pbe=F`, and `energy_unit: eV`'
    assert in_options(said, ['force_key'], 'pbe=') == wanted


def test_what_a_command_has_no_option_for_is_not_recommended() -> None:
    said = "no such format. Write `format:` with ASE's name for it."
    wanted = 'no such format. Convert it to extended XYZ.'
    assert in_options(said, ['energy_key']) == without_entry(said) == wanted
    said = 'Correct the file, its `index` or its `format`, or remove it.'
    assert without_entry(said) == 'Correct the file, or remove it.'


def test_errors_are_reworded() -> None:
    words = '^--on_bad: must be `none`$'
    with pytest.raises(UserError, match=words), said_in_options(ENTRY):
        raise UserError(': must be `null`', 'entry 1 of the data.on_bad')
