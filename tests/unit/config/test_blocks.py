"""The `fidelity` blocks: what they take, and one clear line for what they do not."""

from typing import Any

import pytest

from sevennet_mf.config.blocks import (
    Block,
    DataEntry,
    DataFidelity,
    ModelFidelity,
    TrainFidelity,
    validate,
)
from sevennet_mf.errors import UserError

WORD = 'a fidelity name is a quoted word of letters, digits and _ . + -'
RESERVED = 'is reserved: common, total, all'


def message(block: type[Block], values: Any, where: str = 'here') -> str:
    with pytest.raises(UserError) as caught:
        validate(block, values, where)
    text = str(caught.value)
    assert '\n' not in text
    assert 'pydantic' not in text
    return text


# ---- what is understood


@pytest.mark.parametrize('nothing', [None, {}])
def test_defaults(nothing: Any) -> None:
    model = validate(ModelFidelity, nothing, 'model.fidelity')
    assert model.model_dump() == {
        'encoding': 'bias',
        'rank': 4,
        'sites': ['self_interaction_1', 'self_interaction_2', 'output'],
        'scale': 'shared',
    }
    train = validate(TrainFidelity, nothing, 'train.fidelity')
    assert train.model_dump() == {
        'target': None,
        'loss_weight': {},
        'sampling': 'proportional',
        'steps_per_epoch': None,
        'regularization': 1e-6,
        'known_as': None,
        'start_from': None,
        'update': 'all',
        'replay': None,
        'max_drift': None,
        'checkpoint_every': 500,
        'loss': None,
        'energy_loss_weight': None,
        'grad_clip': None,
        'batch_edges': None,
        'schedule_by': None,
        'ema': None,
        'early_stopping': None,
        'report_to': [],
    }
    data = validate(DataFidelity, nothing, 'data.fidelity')
    assert data.model_dump() == {
        'order': None,
        'base': None,
        'reference_energies': 'aligned',
        'inferred_labels': 'auto',
        'cache': True,
        'key': None,
        'about': {},
    }


def test_everything_given() -> None:
    train = {
        'target': 'r2scan',
        'loss_weight': {'pbe': 2, 'r2scan': {'energy': 3, 'force': '1e-2'}},
        'sampling': {'pbe': 3, 'r2scan': 1},
        'regularization': '1e-6',  # what PyYAML makes of 1e-6
        'checkpoint_every': 10,
        'loss': {'force': 'l2mae', 'energy': {'type': 'huber', 'delta': '1e-2'}},
        'energy_loss_weight': 2,
        'grad_clip': '1e1',
        'schedule_by': 'step',
        'ema': {'decay': 0.99},
        'early_stopping': {'patience': 3},
        'report_to': ['tensorboard', 'wandb'],
    }
    read = validate(TrainFidelity, train, 'train.fidelity').model_dump()
    assert read == {
        **train,
        'loss_weight': {
            'pbe': 2.0,
            'r2scan': {'energy': 3.0, 'force': 0.01, 'stress': 1.0},
        },
        'steps_per_epoch': None,
        'regularization': 1e-6,
        'known_as': None,
        'start_from': None,
        'update': 'all',
        'replay': None,
        'max_drift': None,
        'loss': {
            'energy': {'type': 'huber', 'delta': 0.01},
            'force': {'type': 'l2mae', 'delta': None},
            'stress': None,
        },
        'grad_clip': 10.0,
        'batch_edges': None,
        'ema': {'decay': 0.99, 'warmup': True},
    }
    data = {
        'order': ['pbe', 'r2scan', 'CCSD_T.v1+x-2'],
        'base': 'pbe',
        'reference_energies': {'r2scan': {'In': '-3.1e0', 'N': -4}},
        'key': 'level',
        'about': {'pbe': {'functional': 'PBE', 'cutoff': 700, 'spin': False}},
    }
    read = validate(DataFidelity, data, 'data.fidelity').model_dump()
    assert read == {
        **data,
        'reference_energies': {'r2scan': {'In': -3.1, 'N': -4.0}},
        'inferred_labels': 'auto',
        'cache': True,
    }
    assert read['about']['pbe']['spin'] is False


def test_dumped_blocks_are_plain_builtins() -> None:
    values = {'loss_weight': {'pbe': {'energy': 2}}}
    dumped = validate(TrainFidelity, values, 'x').model_dump()
    assert type(dumped['loss_weight']['pbe']) is dict
    assert values == {'loss_weight': {'pbe': {'energy': 2}}}  # the user's own


@pytest.mark.parametrize(
    ('given', 'wanted'), [('::2', '::2'), (3, '3'), (-1, '-1')]
)
def test_index(given: Any, wanted: str) -> None:
    entry = validate(DataEntry, {'file': 'x', 'index': given}, 'here')
    assert entry.index == wanted


def test_a_removed_key_that_was_off_is_a_warning() -> None:
    words = r'^train.fidelity.paired_weight was removed: '
    with pytest.warns(UserWarning, match=words):
        block = validate(TrainFidelity, {'paired_weight': 0.0}, 'train.fidelity')
    assert block == TrainFidelity()


def test_a_removed_key_that_was_on_is_an_error() -> None:
    text = message(TrainFidelity, {'paired_weight': 1.0}, 'train.fidelity')
    assert text.startswith('train.fidelity.paired_weight was removed: ')
    assert text.endswith('larger ones for molecules. Remove the key.')


def test_repeated_sites_count_once() -> None:
    block = validate(ModelFidelity, {'sites': ['output', 'output']}, 'here')
    assert block.sites == ['output']


@pytest.mark.parametrize(
    'block', [ModelFidelity, TrainFidelity, DataFidelity, DataEntry]
)
def test_every_field_is_described(block: type[Block]) -> None:
    for name, field in block.model_fields.items():
        assert field.description, name


# ---- what is not


@pytest.mark.parametrize(
    ('block', 'values', 'wanted'),
    [
        (ModelFidelity, {'encodin': 'bias'}, 'encodin is not a known key. Did you'
         " mean 'encoding'? Known: encoding, rank, sites, scale."),
        (TrainFidelity, {'samplin': 1}, "Did you mean 'sampling'?"),
        (DataFidelity, {'bse': 1}, "bse is not a known key. Did you mean 'base'?"),
        (DataEntry, {'fil': 'x'}, "fil is not a known key. Did you mean 'file'?"),
        (TrainFidelity, {'loss_weight': {'pbe': {'enrgy': 1}}},
         "loss_weight.pbe.enrgy is not a known key. Did you mean 'energy'? Known: "
         'energy, force, stress.'),
        (DataFidelity, {'zzz': 1}, 'zzz is not a known key. Known: order, base'),
    ],
)  # fmt: skip
def test_misspelt_keys(block: type[Block], values: Any, wanted: str) -> None:
    text = message(block, values, 'data.fidelity')
    assert text.startswith('data.fidelity.')
    assert wanted in text


@pytest.mark.parametrize(
    ('values', 'wanted'),
    [
        ({'encoding': 'biass'}, "encoding: must be 'bias', 'gain' or 'lora', got "
         "'biass'. Did you mean 'bias'?"),
        ({'encoding': None}, "must be 'bias', 'gain' or 'lora', got None."),
        ({'rank': 0}, 'rank: must be greater than or equal to 1, got 0.'),
        ({'rank': True}, 'rank: must be a number, got True.'),
        ({'rank': 1.5}, 'rank: must be a whole number, got 1.5.'),
        ({'rank': 'four'}, "rank: must be a whole number, got 'four'."),
        ({'sites': 5}, 'sites: must be a list, got 5.'),
        ({'sites': []}, 'sites: must not be empty, got [].'),
        ({'sites': ['outputs']}, "got 'outputs'. Did you mean 'output'?"),
        ({'scale': 'Shared'}, "must be 'shared' or 'per_fidelity', got 'Shared'."),
        ({'rank': 'x', 'encoding': 'lorra'}, "Did you mean 'lora'?"),
    ],
)  # fmt: skip
def test_model_values(values: Any, wanted: str) -> None:
    assert wanted in message(ModelFidelity, values, 'model.fidelity')


@pytest.mark.parametrize(
    ('values', 'wanted'),
    [
        ({'loss_weight': {'pbe': -1}},
         'loss_weight.pbe: must be greater than 0, got -1.'),
        ({'loss_weight': {'pbe': 0}},
         'loss_weight.pbe: must be greater than 0, got 0.'),
        ({'loss_weight': {'pbe': 'abc'}},
         "loss_weight.pbe: must be a number, got 'abc'."),
        ({'loss_weight': {'pbe': True}},
         'loss_weight.pbe: must be a number, got True.'),
        ({'loss_weight': {'pbe': None}}, 'pbe: must be a number, got None.'),
        ({'loss_weight': {'pbe': {'energy': -1}}},
         'loss_weight.pbe.energy: must be greater than 0, got -1.'),
        ({'loss_weight': {'pbe': {'energy': 'x'}}},
         "loss_weight.pbe.energy: must be a number, got 'x'."),
        ({'loss_weight': 'balancd'},
         "loss_weight: must be 'balanced', got 'balancd'. Did you mean 'balanced'?"),
        ({'loss_weight': 3}, 'loss_weight: must be a block of keys, got 3.'),
        ({'sampling': {'pbe': float('inf')}}, 'must be a finite number, got inf.'),
        ({'sampling': {'pbe': 0}}, 'sampling.pbe: must be greater than 0, got 0.'),
        ({'sampling': {'pbe': 'x'}}, "sampling.pbe: must be a number, got 'x'."),
        ({'sampling': 'balance'}, "got 'balance'. Did you mean 'balanced'?"),
        ({'regularization': -1},
         'regularization: must be greater than or equal to 0, got -1.'),
        ({'regularization': 'abc'}, "regularization: must be a number, got 'abc'."),
        ({'regularization': float('nan')}, 'got nan.'),
        ({'checkpoint_every': 0}, 'must be greater than or equal to 1, got 0.'),
        ({'target': 5}, f'target: {WORD}, got 5.'),
        ({'target': False}, f'target: {WORD}, got False.'),  # YAML's `no`
        ({'target': 'a b'}, f"target: {WORD}, got 'a b'."),
    ],
)  # fmt: skip
def test_train_values(values: Any, wanted: str) -> None:
    assert wanted in message(TrainFidelity, values, 'train.fidelity')


@pytest.mark.parametrize(
    ('values', 'wanted'),
    [
        ({'order': 5}, 'order: must be a list, got 5.'),
        ({'order': []}, 'order: must not be empty, got [].'),
        ({'order': ['pbe', 'pbe']}, "order: names must differ, got ['pbe', 'pbe']."),
        ({'order': ['pbe', 2]}, f'order.1: {WORD}, got 2.'),
        ({'base': 1}, f'base: {WORD}, got 1.'),
        ({'reference_energies': 'align'}, "got 'align'. Did you mean 'aligned'?"),
        ({'reference_energies': {'pbe': -3}},
         'reference_energies.pbe: must be a block of keys, got -3.'),
        ({'reference_energies': {'pbe': {'In': 'x'}}},
         "reference_energies.pbe.In: must be a number, got 'x'."),
        ({'reference_energies': {'pbe': {'In': True}}}, 'a number, got True.'),
        ({'reference_energies': {'a b': {'In': 1}}}, WORD),
        ({'key': 5}, 'key: must be text, got 5.'),
        ({'about': {'pbe': 'x'}}, "about.pbe: must be a block of keys, got 'x'."),
        ({'about': {'pbe': {'a': [1]}}}, 'about.pbe.a: must be text, got [1].'),
    ],
)  # fmt: skip
def test_data_values(values: Any, wanted: str) -> None:
    assert wanted in message(DataFidelity, values, 'data.fidelity')


@pytest.mark.parametrize(
    ('values', 'wanted'),
    [
        ({}, 'here.file is missing.'),
        ({'file': 5}, 'here.file: must be text, got 5.'),
        ({'file': []}, 'here.file: must be text, got [].'),
        ({'file': ['a', 1]}, 'here.file.1: must be text, got 1.'),
        ({'file': 'x', 'fidelity': 3}, f'here.fidelity: {WORD}, got 3.'),
        ({'file': 'x', 'energy_key': 3}, 'here.energy_key: must be text, got 3.'),
        ({'file': 'x', 'force_key': False}, 'force_key: must be text, got False.'),
        ({'file': 'x', 'index': 1.5}, 'index: must be text, got 1.5.'),
        ({'file': 'x', 'index': True}, 'index: must be text, got True.'),
    ],
)
def test_entries(values: Any, wanted: str) -> None:
    assert wanted in message(DataEntry, values)


@pytest.mark.parametrize('name', ['common', 'total', 'all', 'Total', 'COMMON'])
def test_reserved_names_are_refused_in_each_place(name: str) -> None:
    for block, values, key in [
        (TrainFidelity, {'target': name}, 'target'),
        (TrainFidelity, {'loss_weight': {name: 1}}, f'loss_weight.{name}'),
        (TrainFidelity, {'sampling': {name: 1}}, f'sampling.{name}'),
        (DataFidelity, {'order': [name]}, 'order.0'),
        (DataFidelity, {'base': name}, 'base'),
        (DataFidelity, {'reference_energies': {name: {}}}, 'reference_energies'),
        (DataFidelity, {'about': {name: {}}}, f'about.{name}'),
        (DataEntry, {'file': 'x', 'fidelity': name}, 'fidelity'),
    ]:
        text = message(block, values)
        assert text.startswith(f'here.{key}')
        assert f'{name!r} {RESERVED}' in text


@pytest.mark.parametrize('values', [3, [1], 'bias', True])
def test_a_block_is_a_block(values: Any) -> None:
    text = message(ModelFidelity, values, 'model.fidelity')
    assert text == f'model.fidelity must be a block of keys, got {values!r}.'
