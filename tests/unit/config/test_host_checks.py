"""The host's keys: what it would bend, ignore or trip over is one clear line."""

from typing import Any

import pytest
from helpers import sections

from sevennet_mf.config import inputs
from sevennet_mf.errors import UserError


def message(section: str, **values: Any) -> str:
    given = sections()
    given[section].update(values)
    with pytest.raises(UserError) as caught:
        inputs.from_sections(given)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ('section', 'values', 'wanted'),
    [
        ('model', {'cutof': 4}, "cutof is not a known key. Did you mean 'cutoff'?"),
        ('model', {'_type_map': 4}, 'model._type_map is not a known key.'),
        ('train', {'epochs': 4}, "Did you mean 'epoch'?"),
        ('data', {'batchsize': 4}, "Did you mean 'batch_size'?"),
        ('data', {'laod_validset_path': 'x'}, 'laod_validset_path is not a known'),
        ('model', {'zzz': 4}, 'model.zzz is not a known key.'),
        ('model', {'fidelty': {}}, "fidelty is not a known key. Did you mean 'fid"),
        ('train', {'optim_param': {'lrr': 1}}, "of adam. Did you mean 'lr'?"),
        ('train', {'optimizer': 'SGD', 'optim_param': {'betas': 1}}, 'key of SGD.'),
        ('train', {'scheduler_param': {'gama': 1}}, "Did you mean 'gamma'?"),
        ('train', {'loss': 'huber', 'loss_param': {'dleta': 1}}, "mean 'delta'?"),
    ],
)  # fmt: skip
def test_misspelt_keys(section: str, values: Any, wanted: str) -> None:
    """Trap 10: the host only warns."""
    assert wanted in message(section, **values)


@pytest.mark.parametrize(
    ('section', 'name'),
    [('model', 'mode'), ('train', 'depth'), ('train', 'hidden'), ('data', 'name')],
)
def test_no_hint_where_nothing_is_in_common(section: str, name: str) -> None:
    assert message(section, **{name: 1}) == f'{section}.{name} is not a known key.'


@pytest.mark.parametrize(
    ('section', 'values', 'place'),
    [
        ('train', {'ema': {}}, 'train.fidelity'),
        ('train', {'report_to': ['tensorboard']}, 'train.fidelity'),
        ('model', {'encoding': 'gain'}, 'model.fidelity'),
        ('data', {'loss_weight': {}}, 'train.fidelity'),
        ('model', {'batch_size': 4}, 'data'),
        ('train', {'load_validset_path': ['x']}, 'data'),
        ('data', {'chemical_species': 'auto'}, 'model'),
        ('data', {'energy_key': 'E'}, 'an entry of data.load_trainset_path'),
        ('train', {'fidelity': {'order': ['pbe', 'r2scan']}}, 'data.fidelity'),
        ('data', {'fidelity': {'cutoff': 4.0}}, 'model'),
    ],
)
def test_a_key_in_another_place(
    section: str, values: dict[str, Any], place: str
) -> None:
    [(name, inner)] = values.items()
    key = f'{name}.{[*inner][0]}' if name == 'fidelity' else name
    said = f'{section}.{key} is not a known key. It belongs to {place}.'
    assert message(section, **values) == said


@pytest.mark.parametrize(
    ('section', 'place'),
    [
        ('ema', 'It belongs to train.fidelity.'),
        ('epoch', 'It belongs to train.'),
        ('load_trainset_path', 'It belongs to data.'),
        ('fidelity', 'It belongs within a section, as in train.fidelity.'),
    ],
)
def test_a_key_outside_of_all_sections(section: str, place: str) -> None:
    words = rf"got '{section}'\. {place}$"
    with pytest.raises(UserError, match=words):
        inputs.from_sections({**sections(), section: {}})
    with pytest.raises(UserError, match=words):
        inputs.refuse_ignored({'model': {}, 'train': {}, 'data': {}, section: {}})


def test_our_words_in_a_yaml_without_a_fidelity() -> None:
    """SevenNet would train, and only warn."""
    words = r'^train\.ema is not a key of SevenNet.*belongs to train\.fidelity\.$'
    with pytest.raises(UserError, match=words):
        inputs.refuse_ignored({'model': {}, 'train': {'ema': {}}, 'data': {}})
    inputs.refuse_ignored({'train': {'batch_size': 4}})  # SevenNet's own affair


@pytest.mark.parametrize('value', ['no', 'yes', 0, 1, None])
def test_true_or_false(value: Any) -> None:
    """Trap 10: the host makes True of 'no'."""
    text = message('model', is_parity=value)
    assert text == f'model.is_parity must be true or false, got {value!r}.'


@pytest.mark.parametrize(
    ('section', 'values', 'wanted'),
    [
        ('model', {'lmax': 1.5}, 'lmax must be a whole number, got 1.5.'),
        ('model', {'lmax': 'two'}, "lmax must be a whole number, got 'two'."),
        ('model', {'lmax': True}, 'lmax must be a whole number, got True.'),
        ('model', {'lmax': -1}, 'lmax must not be negative, got -1.'),
        ('model', {'channel': float('inf')}, 'must be a whole number, got inf.'),
        ('model', {'cutoff': None}, 'cutoff must be a number, got None.'),
        ('model', {'cutoff': float('nan')}, 'cutoff must be a number, got nan.'),
        ('model', {'cutoff': -1}, 'cutoff must be greater than 0, got -1.'),
        ('model', {'weight_nn_hidden_neurons': 64}, 'must be a list, got 64.'),
        ('model', {'weight_nn_hidden_neurons': 'ab'}, "must be a list, got 'ab'."),
        ('model', {'cuequivariance_config': True}, 'a block of keys, got True.'),
        ('model', {'act_radial': 'silly'}, "Did you mean 'silu'?"),
        ('model', {'act_gate': 5}, 'act_gate must be a block of keys, got 5.'),
        ('model', {'act_gate': {'e': 'tanh'}}, 'act_gate.e must be one of'),
        ('model', {'act_scalar': {'x': 'tanh'}}, "must be one of ['e', 'o']"),
        ('model', {'radial_basis': 'bessel'}, 'must be a block of keys'),
        ('train', {'epoch': 0}, 'epoch must be greater than 0, got 0.'),
        ('train', {'epoch': '1e2'}, "epoch must be a whole number, got '1e2'."),
        ('train', {'force_loss_weight': -0.1}, 'must not be negative, got -0.1.'),
        ('train', {'optim_param': 5}, 'optim_param must be a block of keys, got 5.'),
        ('train', {'optimizer': 'adamm'}, "Did you mean 'adam'?"),
        ('train', {'optimizer': ['adam']}, 'train.optimizer must be one of'),
        ('train', {'scheduler': 'linear'}, "Did you mean 'linearlr'?"),
        ('train', {'loss': 'hubber'}, "Did you mean 'huber'?"),
        ('train', {'csv_log': None}, 'csv_log must be text, got None.'),
        ('data', {'batch_size': 0}, 'batch_size must be greater than 0, got 0.'),
        ('data', {'batch_size': 2.5}, 'batch_size must be a whole number, got 2.5.'),
    ],
)  # fmt: skip
def test_values(section: str, values: Any, wanted: str) -> None:
    text = message(section, **values)
    assert text.startswith(f'{section}.{next(iter(values))}')
    assert wanted in text


@pytest.mark.parametrize(
    ('section', 'values'),
    [
        ('train', {'optimizer': 'AdamW', 'loss': 'Huber', 'scheduler': 'LinearLR'}),
        ('model', {'act_gate': {'e': 'ssp', 'o': 'abs'}}),
        ('model', {'cutoff_function': {'poly_cut_p_value': 7}}),
        ('model', {'irreps_manual': False, 'lmax': 0}),
        ('train', {'stress_loss_weight': 0}),
    ],
)
def test_values_that_are_fine(section: str, values: dict[str, Any]) -> None:
    given = sections()
    given[section].update(values)
    read = inputs.from_sections(given)[('model', 'train', 'data').index(section)]
    for key, value in values.items():
        wanted = {**read[key], **value} if isinstance(value, dict) else value
        assert read[key] == wanted


@pytest.mark.parametrize(
    ('key', 'block', 'wanted'),
    [
        ('radial_basis', {'bessel_basis_nm': 8}, "Did you mean 'bessel_basis_num'?"),
        ('radial_basis', {'cutoff_length': 8}, 'cutoff_length is not a known key.'),
        ('cutoff_function', {'cutoff_on': 3.5}, 'cutoff_on is not a known key.'),
        ('cutoff_function', {'cutoff_function_name': 'XPLOR'},
         'cutoff_function.cutoff_on is missing: XPLOR needs it.'),
        ('cutoff_function', {'cutoff_function_name': 'XPLO', 'cutoff_on': 3},
         "'XPLO' for 'cutoff_function_name' is not valid"),
    ],
)  # fmt: skip
def test_blocks_that_name_a_layer(key: str, block: Any, wanted: str) -> None:
    assert wanted in message('model', **{key: block})


@pytest.mark.parametrize(
    ('block', 'wanted'),
    [
        (5, 'train.continue must be a block of keys, got 5.'),
        ({'chekpoint': 'x'}, "Did you mean 'checkpoint'?"),
        ({}, 'continue.checkpoint must be a file or a pretrained model, got None.'),
        ({'reset_epoch': True},
         'continue.checkpoint must be a file or a pretrained model, got None.'),
        ({'checkpoint': False}, 'must be a file or a pretrained model, got False.'),
        ({'checkpoint': 'nowhere.pth'},
         'no such file: nowhere.pth.'),
        ({'checkpoint': '7net-0', 'reset_epoch': 'no'},
         "continue.reset_epoch must be true or false, got 'no'."),
        ({'checkpoint': '7net-0', 'ewc_lamda': 3}, "Did you mean 'ewc_lambda'?"),
    ],
)  # fmt: skip
def test_continue(block: Any, wanted: str) -> None:
    assert wanted in message('train', **{'continue': block})


def test_continue_from_a_pretrained_model() -> None:
    given = sections()
    given['model'] = {}  # the architecture comes from there
    given['train'].update(
        {'continue': {'checkpoint': '7net-0'}, 'fidelity': {'known_as': 'mp'}}
    )
    read = inputs.from_sections(given)[1]['continue']
    assert read['checkpoint'].endswith('checkpoint_sevennet_0.pth')
    assert read['reset_epoch'] is True  # fidelities are added


@pytest.mark.parametrize(
    ('species', 'wanted'),
    [
        (['In', 'Xx'], "model.chemical_species: 'Xx' is not an element."),
        ('In, Gaa', "'Gaa' is not an element. Did you mean 'Ga'?"),
        (['X'], "'X' is not an element."),
        ([49], '49 is not an element.'),
        (5, 'must be `auto`, `univ` or a list of elements, got 5.'),
        ([], 'must be `auto`, `univ` or a list of elements, got [].'),
    ],
)
def test_elements(species: Any, wanted: str) -> None:
    assert wanted in message('model', chemical_species=species)


@pytest.mark.parametrize('species', ['auto', 'Auto', 'univ', 'In Ga N', ['In']])
def test_elements_that_are_fine(species: Any) -> None:
    given = sections()
    given['model']['chemical_species'] = species
    assert inputs.from_sections(given)[0]['chemical_species']


@pytest.mark.parametrize('ratio', [1.0, 1.5, -0.1])
def test_a_share_of_the_training_set_is_below_one(ratio: float) -> None:
    wanted = 'data.data_divide_ratio must be at least 0 and below 1'
    assert wanted in message('data', data_divide_ratio=ratio)


def test_a_device_that_is_none() -> None:
    assert 'train.device must be auto, cpu, cuda' in message('train', device='gpu')
