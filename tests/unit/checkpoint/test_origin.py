"""A checkpoint that training starts from: opened once, and described."""

from pathlib import Path
from unittest import mock

import pytest
from helpers import NAMES, host_config, model_config
from pretrained_helpers import (
    OFFSETS,
    SELF_LABEL,
    extending,
    labelled,
    mixed,
    pretrained,
    trained_in,
)

from sevennet_mf.checkpoint import unpickle
from sevennet_mf.checkpoint.origin import names_in, open_origin
from sevennet_mf.config import inputs
from sevennet_mf.errors import UserError
from sevennet_mf.train.continuing.extend_file import extend_file


def test_a_plain_checkpoint(tmp_path: Path) -> None:
    origin = open_origin(str(pretrained(tmp_path)))
    assert origin.is_plain
    assert (origin.names, origin.epoch, origin.provenance) == ((), 1, {})


def test_a_checkpoint_of_several_fidelities(tmp_path: Path) -> None:
    origin = open_origin(str(pretrained(tmp_path, NAMES, 'lora', sites=['output'])))
    assert not origin.is_plain
    assert origin.names == NAMES
    wanted = {'encoding': 'lora', 'sites': ['output'], 'scale': 'shared'}
    assert wanted.items() <= origin.fidelity.items()


def test_modalities_of_the_host_are_biases() -> None:
    config = host_config(model_config('bias', NAMES))
    assert names_in(config) == NAMES


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no such file'):
        open_origin(str(tmp_path / 'nothing.pth'))


def test_it_is_read_once_from_the_yaml_to_the_end(tmp_path: Path) -> None:
    plain = pretrained(tmp_path)
    files = [
        labelled(tmp_path / f'{n}.extxyz', mixed(6, n), plain, offsets=OFFSETS)
        for n in range(2)
    ]
    sections = extending(plain, *files, known_as='pbe', replay=SELF_LABEL)
    with mock.patch.object(unpickle, 'read', side_effect=unpickle.read) as reads:
        trained_in(tmp_path / 'run', sections)
        assert [call.args[0] for call in reads.mock_calls].count(str(plain)) == 1
        origin = open_origin(str(plain))
        reads.reset_mock()
        inputs.read(sections, opened=origin)
        reads.assert_not_called()


def test_extend_reads_it_once(tmp_path: Path) -> None:
    plain = pretrained(tmp_path)
    with mock.patch.object(unpickle, 'read', side_effect=unpickle.read) as reads:
        extend_file(str(plain), 'r2scan', str(tmp_path / 'two.pth'), known_as='pbe')
    assert reads.call_count == 1
