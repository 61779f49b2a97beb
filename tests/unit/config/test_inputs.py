"""From a YAML file to the host's dictionaries: nothing ignored, nothing touched."""

import copy
from pathlib import Path
from typing import Any

import pytest
import sevenn._const as const
import yaml
from helpers import INGAN, NAMES, entry, sections

from sevennet_mf import keys
from sevennet_mf.config import inputs
from sevennet_mf.config.paths import existing
from sevennet_mf.errors import UserError


def message(yaml_sections: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        inputs.from_sections(yaml_sections)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def with_data(**data: Any) -> dict[str, Any]:
    result = sections()
    result['data'].update(data)
    return result


def with_fidelity(section: str, **values: Any) -> dict[str, Any]:
    result = sections()
    result[section].setdefault('fidelity', {}).update(values)
    return result


# ---- the file


def test_load_yaml(tmp_path: Path) -> None:
    path = tmp_path / 'input.yaml'
    path.write_text(yaml.safe_dump(sections()))
    assert inputs.load_yaml(str(path)) == sections()


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-4', 1e-4),
        ('1.0e4', 1e4),
        ('-2.5E+3', -2500.0),
        ('1.0e-6', 1e-6),
        ('3', 3),
        ("'1e-4'", '1e-4'),
        ('1e', '1e'),
        ('2026-01-02e', '2026-01-02e'),
    ],
)
def test_numbers_as_people_write_them(
    text: str, value: Any, tmp_path: Path
) -> None:
    path = tmp_path / 'input.yaml'
    path.write_text(f'train: {{optim_param: {{lr: {text}}}}}')
    found = inputs.load_yaml(str(path))['train']['optim_param']['lr']
    assert found == value
    assert type(found) is type(value)
    assert yaml.safe_load('1e-4') == '1e-4'  # what the host keeps getting


def test_a_file_beside_it_was_meant(tmp_path: Path) -> None:
    (tmp_path / 'multi_fidelity.yaml').touch()
    with pytest.raises(UserError, match="no such file.*mean 'multi_fidelity.yaml'"):
        inputs.load_yaml(str(tmp_path / 'multi_fidelty.yaml'))
    with pytest.raises(UserError, match='is a folder; give a YAML'):
        inputs.load_yaml(str(tmp_path))


@pytest.mark.parametrize(
    ('content', 'wanted'),
    [
        (b'model: [', 'is not valid YAML'),
        (b'\xff\xfe\x00', 'cannot be read'),
        (b'- model', 'must have the sections model, train and data; it has none'),
        (b'', 'it is empty'),
    ],
)
def test_files_that_are_no_yaml(content: bytes, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / 'input.yaml'
    path.write_bytes(content)
    with pytest.raises(UserError, match=wanted) as caught:
        inputs.load_yaml(str(path))
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_no_such_file() -> None:
    with pytest.raises(UserError, match=r'no such file: nowhere\.yaml'):
        inputs.load_yaml('nowhere.yaml')


@pytest.mark.parametrize(
    ('yaml_sections', 'wanted'),
    [
        (sections(), True),
        ({'model': {'fidelity': None}}, True),
        ({'train': {'fidelity': {}}}, True),
        ({'data': {'fidelity': {}}}, True),
        ({'data': {'load_trainset_path': [entry('pbe')]}}, True),
        ({'data': {'load_trainset_path': entry('pbe')}}, True),
        ({'data': {'load_my_path': ['a', entry('pbe')]}}, True),
        ({'model': {}, 'train': None, 'data': {'load_trainset_path': 'x'}}, False),
        ({'data': {'load_trainset_path': [{'data_modality': 'pbe'}]}}, False),
        ({'model': 'fidelity', 'other': {'fidelity': 1}}, False),
        ({'data': {1: 2, 'loading': {'fidelity': 1}}}, False),
    ],
)
def test_has_fidelity(yaml_sections: dict[str, Any], wanted: bool) -> None:
    assert inputs.has_fidelity(yaml_sections) is wanted


# ---- what is understood


def test_three_dictionaries() -> None:
    model, train, data = inputs.from_sections(sections())
    assert model['_modal_map'] == {'pbe': 0, 'r2scan': 1}
    assert model['_number_of_modalities'] == 2
    assert model['use_modal_self_inter_intro'] is True
    assert model['use_modal_node_embedding'] is False
    assert train['use_modality'] is True
    assert data['use_modal_wise_shift'] is True
    assert data['use_modal_wise_scale'] is False
    assert model[keys.FIDELITY_MODEL]['encoding'] == 'bias'
    assert train[keys.FIDELITY_TRAIN]['target'] == 'r2scan'
    assert data[keys.FIDELITY_DATA]['order'] == list(NAMES)
    assert data[keys.FIDELITY_DATA]['base'] == 'pbe'
    assert data['load_trainset_path'] == [
        {'file': [entry(name)['file']], 'fidelity': name} for name in NAMES
    ]
    assert not {'fidelity', 'encoding'} & {*model, *train, *data}


def test_flat_keys_are_plain_builtins() -> None:
    plain = (dict, list, str, int, float, bool, type(None))

    def check(value: Any) -> None:
        assert type(value) in plain, value
        if isinstance(value, dict):
            for inner in [*value, *value.values()]:
                check(inner)
        if isinstance(value, list):
            for inner in value:
                check(inner)

    loss_weight = {'pbe': {'energy': 2}, 'r2scan': 3}
    given = with_fidelity('train', loss_weight=loss_weight)
    for part in inputs.from_sections(given):
        check(part)


def test_the_users_dictionary_is_not_touched() -> None:
    """Trap 9."""
    given = sections()
    given['model'] = {'fidelity': {'encoding': 'bias'}}
    given['train']['continue'] = {'checkpoint': '7net-0'}
    given['train']['fidelity'] = {'known_as': 'mp'}
    before = copy.deepcopy(given)
    inputs.from_sections(given)
    assert given == before


def test_orders_are_given_or_read_off() -> None:
    given = with_fidelity('data', order=['r2scan', 'pbe'])
    model, train, data = inputs.from_sections(given)
    assert model['_modal_map'] == {'r2scan': 0, 'pbe': 1}
    assert train[keys.FIDELITY_TRAIN]['target'] == 'pbe'
    assert data[keys.FIDELITY_DATA]['base'] == 'r2scan'
    files = [entry('b'), entry('a'), entry('b')]
    data = inputs.from_sections(with_data(load_trainset_path=files))[2]
    assert data[keys.FIDELITY_DATA]['order'] == ['b', 'a']


def test_one_fidelity() -> None:
    model, train, data = inputs.from_sections(sections('r2scan'))
    assert train['use_modality'] is False
    assert '_modal_map' not in model
    assert not any(model[switch] for switch in keys.SITE_SWITCH.values())
    assert data['use_modal_wise_shift'] is False
    assert train[keys.FIDELITY_TRAIN]['target'] == 'r2scan'


def test_files_by_pattern_list_and_name() -> None:
    given = with_data(
        load_trainset_path=[
            {'file': str(INGAN / 'pbe_*.extxyz'), 'fidelity': 'pbe'},
            {'file': str(INGAN / 'r2scan_{pool,valid}.extxyz'), 'fidelity': 'hse'},
        ],
        load_validset_path={
            'file': [entry('')['file'], str(INGAN / 'mixing_pbe.extxyz')],
            'fidelity': 'pbe',
            'index': -1,
        },
    )
    data = inputs.from_sections(given)[2]
    names = [
        [Path(f).name for f in e['file']]
        for e in data['load_trainset_path'] + data['load_validset_path']
    ]
    assert names == [
        ['pbe_train.extxyz', 'pbe_valid.extxyz'],
        ['r2scan_pool.extxyz', 'r2scan_valid.extxyz'],
        ['pbe_valid.extxyz', 'mixing_pbe.extxyz'],
    ]
    assert data['load_validset_path'][0]['index'] == '-1'


def test_a_file_whose_name_has_braces(tmp_path: Path) -> None:
    path = tmp_path / 'odd{name.extxyz'
    path.write_text('')
    given = with_data(load_trainset_path=[{'file': str(path), 'fidelity': 'pbe'}])
    data = inputs.from_sections(given)[2]
    assert data['load_trainset_path'][0]['file'] == [str(path)]


@pytest.mark.parametrize('name', ['dir[1]/a.extxyz', 'a{1,2}.extxyz', 'b*.extxyz'])
def test_a_file_that_is_there_is_no_pattern(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (name, 'dir1/a.extxyz', 'a1.extxyz', 'b2.extxyz'):
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert existing(name, 'here') == [name]


def test_hints_are_of_names_not_of_endings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ('n_T.extxyz', 'pbe_train.extxyz', 'a.xyz', 'README'):
        Path(file).touch()

    def told(name: str) -> str:
        with pytest.raises(UserError) as caught:
            existing(name, 'here')
        return str(caught.value)

    assert told('r2.extxyz') == 'here: no such file: r2.extxyz.'
    assert told('pbe_trian.extxyz').endswith("Did you mean 'pbe_train.extxyz'?")
    assert told('a.extxyz').endswith("Did you mean 'a.xyz'?")
    assert told('readme').endswith("Did you mean 'README'?")


@pytest.mark.parametrize('name', ['load_trainset', 'load_train_path'])
def test_a_training_set_by_another_name(name: str) -> None:
    given = with_data(**{name: [entry('pbe')]})
    del given['data']['load_trainset_path']
    assert message(given) == (
        f"data.{name} is not a training set. Did you mean 'load_trainset_path'?"
    )


@pytest.mark.parametrize(
    ('given', 'where'),
    [
        ({'model': {'fidelty': {}}}, 'model.fidelty'),
        ({'train': {'Fidelity': {}}}, 'train.Fidelity'),
        (
            {'data': {'load_trainset_path': ['a', {'file': 'a', 'fidelitiy': 'b'}]}},
            r'data\.load_trainset_path\[1\]\.fidelitiy',
        ),
    ],
)
def test_no_fidelity_but_nearly(given: dict[str, Any], where: str) -> None:
    assert not inputs.has_fidelity(given)
    words = f"{where} is not a known key. Did you mean 'fidelity'"
    with pytest.raises(UserError, match=words):
        inputs.refuse_ignored(given)


def test_yaml_of_sevennet_itself_is_not_misspelt() -> None:
    data = {'load_trainset_path': [{'data_modality': 'pbe', 'file_list': []}]}
    inputs.refuse_ignored({'model': {'cutoff': 4}, 'train': None, 'data': data})
    inputs.refuse_ignored(
        {
            'model': const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
            'train': const.DEFAULT_TRAINING_CONFIG,
            'data': const.DEFAULT_DATA_CONFIG,
        }
    )


def test_fidelity_by_key_and_bare_file_names() -> None:
    given = with_data(load_trainset_path=entry('')['file'])
    given['data']['fidelity'] = {'key': 'method', 'order': list(NAMES)}
    data = inputs.from_sections(given)[2]
    assert data['load_trainset_path'] == [{'file': [entry('')['file']]}]


def test_a_fidelity_that_is_null_is_none() -> None:
    """Written out of the reference of keys: the key tells."""
    given = with_data(load_trainset_path=[{**entry('pbe'), 'fidelity': None}])
    given['data']['fidelity'] = {'key': 'method', 'order': list(NAMES)}
    data = inputs.from_sections(given)[2]
    assert 'fidelity' not in data['load_trainset_path'][0]


def test_labels_that_are_named_and_those_that_are_not() -> None:
    """`force_key: null` says there are none; leaving it out says: as ASE reads."""
    listed = [{**entry('pbe'), 'force_key': None}, entry('r2scan')]
    data = inputs.from_sections(with_data(load_trainset_path=listed))[2]
    first, second = data['load_trainset_path']
    assert first['force_key'] is None
    assert 'force_key' not in second


# ---- what is not


def test_unknown_section() -> None:
    text = message({**sections(), 'modle': {}})
    assert text == (
        "a section of the YAML must be one of ['model', 'train', 'data'], got "
        "'modle'. Did you mean 'model'?"
    )


@pytest.mark.parametrize('value', [None, 3, ['x']])
def test_a_section_is_a_block(value: Any) -> None:
    text = message({**sections(), 'train': value})
    assert text == 'section train must be a block of keys.'


@pytest.mark.parametrize('section', ['model', 'train', 'data'])
def test_misspelt_keys_of_each_block(section: str) -> None:
    text = message(with_fidelity(section, regularisation=1))
    assert text.startswith(f'{section}.fidelity.regularisation is not a known key.')
    assert ("Did you mean 'regularization'?" in text) is (section == 'train')


HOST_KEYS = [
    *(('model', switch) for switch in keys.SITE_SWITCH.values()),
    ('train', 'use_modality'),
    ('train', 'use_weight'),
    ('train', 'default_modal'),
    ('data', 'use_modal_wise_shift'),
    ('data', 'use_modal_wise_scale'),
]


@pytest.mark.parametrize(('section', 'key'), HOST_KEYS)
@pytest.mark.parametrize('value', [True, False])
def test_the_hosts_modality_keys_do_not_mix(
    section: str, key: str, value: bool
) -> None:
    given = sections()
    given[section][key] = value
    text = message(given)
    assert text.startswith(f"{section}.{key} belongs to SevenNet's modality train")
    assert 'Remove it' in text


@pytest.mark.parametrize(
    'host_entry',
    [
        {'data_modality': 'pbe', 'file_list': [{'file': 'x'}]},
        {**entry('pbe'), 'data_weight': {'energy': 2.0}},
    ],
)
@pytest.mark.parametrize('load', ['load_trainset_path', 'load_pbe_validset_path'])
def test_the_hosts_entries_do_not_mix(load: str, host_entry: dict[str, Any]) -> None:
    text = message(with_data(**{load: [host_entry, entry('pbe')]}))
    assert text.startswith(f'data.{load}: ')
    assert 'Write `- {file: ..., fidelity: ...}` instead.' in text


def test_no_training_data() -> None:
    given = sections()
    del given['data']['load_trainset_path']
    assert 'data.load_trainset_path is missing' in message(given)
    given = with_data(load_trainset_path=[])
    assert 'data.load_trainset_path is missing' in message(given)


@pytest.mark.parametrize(
    ('value', 'wanted'),
    [
        ([3], 'data.load_trainset_path[0] must be a block of keys, got 3.'),
        (None, 'data.load_trainset_path is missing: nothing to train on.'),
        ([entry('pbe'), {'fidelity': 'pbe'}],
         'data.load_trainset_path[1].file is missing.'),
        ([{'fille': 'x', 'fidelity': 'pbe'}], "Did you mean 'file'?"),
    ],
)  # fmt: skip
def test_entries_that_are_none(value: Any, wanted: str) -> None:
    assert wanted in message(with_data(load_trainset_path=value))


@pytest.mark.parametrize(
    ('file', 'wanted'),
    [
        (INGAN / 'pbe_trian.extxyz', "Did you mean 'pbe_train.extxyz'?"),
        (INGAN / 'nothing_*.extxyz', 'no such file: '),
        (INGAN / '{pbe_train,pbe_vlid}.extxyz', "Did you mean 'pbe_valid.extxyz'?"),
        ('nowhere/at/all.extxyz', 'no such file: nowhere/at/all.extxyz.'),
        (INGAN, 'is a folder; name files in it.'),
        (INGAN / '{pbe', 'a brace is not closed in'),
    ],
)
def test_no_such_data_file(file: Any, wanted: str) -> None:
    listed = [entry('pbe'), {'file': str(file), 'fidelity': 'pbe'}]
    text = message(with_data(load_validset_path=listed))
    assert text.startswith('data.load_validset_path[1]: ')
    assert wanted in text


def test_a_set_that_is_null_is_none() -> None:
    _, _, data = inputs.from_sections(with_data(load_validset_path=None))
    assert 'load_validset_path' not in data


def test_missing_fidelity() -> None:
    listed = [entry('pbe'), {'file': entry('')['file']}]
    text = message(with_data(load_trainset_path=listed))
    assert text.startswith('data.load_trainset_path[1].fidelity is missing.')
    assert 'set data.fidelity.key' in text


def test_key_without_order() -> None:
    given = with_data(load_trainset_path=[entry('pbe'), entry('')['file']])
    given['data']['fidelity'] = {'key': 'method'}
    text = message(given)
    assert text.startswith('data.fidelity.order is missing.')
    assert 'required with data.fidelity.key' in text


@pytest.mark.parametrize(
    ('section', 'values', 'where'),
    [
        ('train', {'target': 'r2scn'}, 'train.fidelity.target'),
        ('train', {'loss_weight': {'r2scn': 1}}, 'train.fidelity.loss_weight'),
        ('train', {'sampling': {'r2scn': 1}}, 'train.fidelity.sampling'),
        ('data', {'base': 'r2scn'}, 'data.fidelity.base'),
        ('data', {'about': {'r2scn': {}}}, 'data.fidelity.about'),
        ('data', {'reference_energies': {'r2scn': {'In': -3}}},
         'data.fidelity.reference_energies'),
    ],
)  # fmt: skip
def test_unknown_fidelities(section: str, values: Any, where: str) -> None:
    text = message(with_fidelity(section, **values))
    assert text == (
        f"{where} must be one of ['pbe', 'r2scan'], got 'r2scn'. Did you mean "
        "'r2scan'? Correct it, or add it to data.fidelity.order."
    )


def test_a_file_of_an_unknown_fidelity() -> None:
    text = message(with_data(load_validset_path=[entry('pbe'), entry('pbee')]))
    assert text.startswith('data.load_validset_path[1].fidelity must be one of')
    assert "got 'pbee'. Did you mean 'pbe'?" in text
    text = message(with_fidelity('data', order=['pbe', 'ccsdt']))
    assert text.startswith('data.load_trainset_path[1].fidelity must be one of')


def test_sampling_needs_every_share() -> None:
    text = message(with_fidelity('train', sampling={'pbe': 3}))
    assert text.startswith("train.fidelity.sampling has no share for ['r2scan']")


@pytest.mark.parametrize('sampling', ['balanced', {'pbe': 1, 'r2scan': 1}])
def test_balancing_twice(sampling: Any) -> None:
    text = message(with_fidelity('train', sampling=sampling, loss_weight='balanced'))
    assert 'would balance twice. Keep one of the two.' in text
    once = with_fidelity('train', sampling=sampling, loss_weight={'pbe': 2.0})
    assert inputs.from_sections(once)[1][keys.FIDELITY_TRAIN]['sampling'] == sampling
