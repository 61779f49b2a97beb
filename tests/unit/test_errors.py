"""Errors that carry the key they are about, so that who knows more may add to it."""

import pickle

import pytest

from sevennet_mf.errors import UserError, said_as, unknown

OPTIONS = {'train.fidelity.known_as': '--known_as', 'train.continue': '--from'}


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (UserError('no such file: a'), 'no such file: a'),
        (UserError('must be 1.', 'a.b'), 'a.b must be 1.'),
        (UserError(': not 2.', 'a.b'), 'a.b: not 2.'),
        (UserError('must be 1.', 'a.b', 'a.yaml'), 'a.yaml: a.b must be 1.'),
        (UserError('no such file: a', where='a.b'), 'a.b: no such file: a'),
    ],
)
def test_key_and_place_are_part_of_the_line(error: UserError, said: str) -> None:
    assert str(error) == said
    again = pickle.loads(pickle.dumps(error))  # as between processes
    assert (str(again), again.key, again.where) == (said, error.key, error.where)


def test_who_catches_it_says_where_it_is() -> None:
    class Special(UserError):
        pass

    error = Special('must be 1.', 'a.b').within('run 3').within('study.yaml')
    assert str(error) == 'study.yaml: run 3: a.b must be 1.'
    assert isinstance(error, Special)


def test_a_name_that_is_not_known_carries_its_key() -> None:
    error = unknown('train.fidelity.target', 'pb', ['pbe', 'r2scan'])
    assert error.key == 'train.fidelity.target'
    assert str(error).startswith("train.fidelity.target must be one of ['pbe', ")
    assert "Did you mean 'pbe'?" in str(error)


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (unknown('train.fidelity.known_as', 'a', ['b']), '--known_as must be'),
        (UserError('no such file: a', where='train.continue'), '--from: no such'),
        (UserError('is wrong', 'train.epoch'), 'train.epoch is wrong'),
        # what a text says by itself, as the name of a file, is left alone
        (UserError('no file train.continue.pth'), 'no file train.continue.pth'),
    ],
)
def test_keys_are_options_of_the_command_line(error: UserError, said: str) -> None:
    with pytest.raises(UserError) as raised, said_as(OPTIONS):
        raise error
    assert str(raised.value).startswith(said)
