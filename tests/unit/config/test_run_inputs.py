"""A YAML as objects, and as the plain dictionary that SevenNet hands on."""

from pathlib import Path
from typing import Any

import pytest
import sevenn._keys as KEY
from helpers import INGAN, NAMES, host_config, sections
from pretrained_helpers import extending, pretrained

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.config import inputs
from sevennet_mf.config.blocks import ComponentWeight
from sevennet_mf.config.run_inputs import from_merged

DATA = str(INGAN / 'pbe_valid.extxyz')
WEIGHT = {'pbe': 2.0, 'r2scan': {'energy': 3.0}}


def given(**train: Any) -> dict[str, Any]:
    result = sections()
    result['train']['fidelity'] = train
    return result


def test_what_is_read_most() -> None:
    asked = inputs.read(given(loss_weight=WEIGHT, target='pbe'))
    assert (asked.order, asked.base, asked.target) == (list(NAMES), 'pbe', 'pbe')
    assert (asked.cutoff, asked.batch_size, asked.seed) == (4.0, 6, 1)
    assert (asked.ratio, list(asked.entries)) == (0.0, ['load_trainset_path'])
    assert (asked.old, asked.added, asked.origin) == ((), (), None)
    assert asked.is_default_order
    assert asked.train.loss_weight == {
        'pbe': 2.0,
        'r2scan': ComponentWeight(energy=3.0),
    }


def test_what_goes_to_the_host_is_plain() -> None:
    model, train, data = inputs.from_sections(given(loss_weight=WEIGHT))
    weight = train[keys.FIDELITY_TRAIN]['loss_weight']
    assert weight['r2scan'] == {'energy': 3.0, 'force': 1.0, 'stress': 1.0}
    for section in (model, train, data):
        assert not any(hasattr(value, 'model_dump') for value in section.values())


@pytest.mark.parametrize(
    'replay',
    [
        None,
        {'file': DATA, 'index': ':4', 'held_out': 0.25},
        {'self_label': {'md': {'temperature': 300}}, 'fidelity': 'pbe'},
        {'self_label': {'structures': DATA}},
    ],
)
def test_it_comes_back_from_the_host(tmp_path: Path, replay: Any) -> None:
    path = pretrained(tmp_path)
    drift = {'energy': 1.0}
    asked = inputs.read(
        extending(path, DATA, known_as='pbe', replay=replay, max_drift=drift)
    )
    again = from_merged(asked.merged())
    assert again.merged() == asked.merged()
    assert (again.model, again.train, again.data) == (
        asked.model,
        asked.train,
        asked.data,
    )
    assert again.origin is not None
    assert (again.old, again.added) == (('pbe',), ('r2scan',))
    assert (again.least_steps, again.host) == (asked.least_steps, again.sections[0])


def test_names_of_a_checkpoint_need_not_be_ours(tmp_path: Path) -> None:
    """SevenNet calls a modality as it likes."""
    path = pretrained(tmp_path, NAMES)
    content = checkpoint_file.load(str(path))
    content['config'] = host_config(content['config'])
    content['config'][KEY.MODAL_MAP] = {'MP trj': 0, 'common': 1}
    checkpoint_file.save(str(path), content)
    asked = inputs.read(extending(path, DATA))
    assert asked.order == ['MP trj', 'common', 'r2scan']
    assert from_merged(asked.merged()).merged() == asked.merged()
