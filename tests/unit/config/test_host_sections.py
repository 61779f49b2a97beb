"""The host's part of the YAML: its defaults, copied; our switches on top."""

import copy
from typing import Any

import pytest
import sevenn._const as const
import sevenn._keys as KEY
from helpers import entry, registered

from sevennet_mf import keys
from sevennet_mf.config import host_sections as host_config
from sevennet_mf.config import recipe
from sevennet_mf.config.blocks import ModelFidelity
from sevennet_mf.errors import UserError

ORDER = ['pbe', 'hse', 'r2scan']
ENTRIES = {'load_trainset_path': [{'file': [entry('')['file']], 'fidelity': 'pbe'}]}
TABLES = (
    'DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG',
    'DEFAULT_TRAINING_CONFIG',
    'DEFAULT_DATA_CONFIG',
    'MODEL_CONFIG_CONDITION',
    'TRAINING_CONFIG_CONDITION',
    'DATA_CONFIG_CONDITION',
)


def model(fidelity: dict[str, Any] | None = None, **section: Any) -> dict[str, Any]:
    return host_config.model(section, ModelFidelity(**fidelity or {}), ORDER)


def data(fidelity: dict[str, Any] | None = None, **section: Any) -> dict[str, Any]:
    return host_config.data(section, ModelFidelity(**fidelity or {}), ORDER, ENTRIES)


@pytest.fixture(autouse=True)
def _host_tables_stay() -> Any:
    """Trap 9: whatever is read, the host's defaults are as they were."""
    before = {name: copy.copy(getattr(const, name)) for name in TABLES}
    nested = {name: repr(getattr(const, name)) for name in TABLES}
    yield
    for name in TABLES:
        assert getattr(const, name) == before[name], name
        assert repr(getattr(const, name)) == nested[name], name


@pytest.mark.parametrize('site', list(keys.SITE_SWITCH))
def test_a_switch_for_each_site(site: str) -> None:
    config = model({'sites': [site]})
    on = [name for name in keys.SITE_SWITCH.values() if config[name]]
    assert on == [keys.SITE_SWITCH[site]]


def test_modal_map_is_the_order() -> None:
    config = model()
    assert config[KEY.MODAL_MAP] == {'pbe': 0, 'hse': 1, 'r2scan': 2}
    assert config[KEY.NUM_MODALITIES] == 3


def test_defaults_are_the_hosts() -> None:
    config = model()
    for name, value in const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG.items():
        if name not in keys.SITE_SWITCH.values():
            assert config[name] == value, name
    assert config[KEY.CHEMICAL_SPECIES] == 'auto'
    config = host_config.train({}, ORDER)
    for name, value in const.DEFAULT_TRAINING_CONFIG.items():
        if name not in config[keys.DEFAULTS][recipe.RECIPE]:
            assert config[name] == (name == KEY.USE_MODALITY or value), name
    config = data()
    for name in (KEY.BATCH_SIZE, KEY.SCALE, KEY.RATIO, KEY.DTYPE):
        assert config[name] == const.DEFAULT_DATA_CONFIG[name]
    assert config['load_trainset_path'] == ENTRIES['load_trainset_path']


def test_nested_defaults_are_copies() -> None:
    """Trap 9."""
    config = model()
    config[KEY.RADIAL_BASIS]['bessel_basis_num'] = 99
    config[KEY.ACTIVATION_GATE]['e'] = 'tanh'
    train = host_config.train({}, ORDER)
    train[KEY.CONTINUE][KEY.CHECKPOINT] = 'x'
    train[KEY.OPTIM_PARAM]['lr'] = 1
    train[KEY.ERROR_RECORD].append('x')  # the fixture compares the tables


def test_the_given_section_is_not_touched() -> None:
    section = {
        KEY.RADIAL_BASIS: {'bessel_basis_num': 4},
        KEY.CONV_DENOMINATOR: 30,
        KEY.READOUT_AS_FCN: True,
    }
    before = copy.deepcopy(section)
    host_config.model(section, ModelFidelity(sites=['node_embedding']), ORDER)
    assert section == before
    train = {KEY.DEVICE: 'auto', KEY.CONTINUE: {KEY.CHECKPOINT: '7net-0'}}
    before = copy.deepcopy(train)
    host_config.train(train, ORDER)
    assert train == before


def test_registered_or_not_is_the_same() -> None:
    without = model()
    with registered():
        assert model() == without
        with pytest.raises(UserError, match='fidelity_model is not a known key'):
            model(fidelity_model={'encoding': 'bias'})


def test_values_the_host_casts() -> None:
    config = model(cutoff='4.5', lmax='2', chemical_species='In, Ga-N')
    assert (config[KEY.CUTOFF], config[KEY.LMAX]) == (4.5, 2)
    assert config[KEY.CHEMICAL_SPECIES] == ['Ga', 'In', 'N']
    assert config[KEY.NUM_SPECIES] == 3
    # 1e-2 is a text to PyYAML, and 30 is no float to the host
    assert host_config.train({'force_loss_weight': '1e-2'}, ORDER)[
        KEY.FORCE_WEIGHT
    ] == pytest.approx(0.01)
    assert model(conv_denominator=30)[KEY.CONV_DENOMINATOR] == 30.0
    assert data(scale=2)[KEY.SCALE] == 2.0
    assert type(data(scale=2)[KEY.SCALE]) is float


def test_device() -> None:
    automatic = host_config.train({'device': 'auto'}, ORDER)[KEY.DEVICE]
    assert automatic == host_config.train({}, ORDER)[KEY.DEVICE]
    assert host_config.train({'device': 'cpu'}, ORDER)[KEY.DEVICE] == 'cpu'


@pytest.mark.parametrize(
    ('scale', 'wanted'), [('shared', False), ('per_fidelity', True)]
)
def test_shift_always_scale_on_request(scale: str, wanted: bool) -> None:
    config = data({'scale': scale})
    assert config[KEY.USE_MODAL_WISE_SHIFT] is True
    assert config[KEY.USE_MODAL_WISE_SCALE] is wanted


def test_one_fidelity_switches_everything_off() -> None:
    one = ['r2scan']
    fidelity = ModelFidelity(scale='per_fidelity')
    config = host_config.model({KEY.READOUT_AS_FCN: True}, fidelity, one)
    assert not any(config[switch] for switch in keys.SITE_SWITCH.values())
    assert KEY.MODAL_MAP not in config
    assert host_config.train({}, one)[KEY.USE_MODALITY] is False
    config = host_config.data({}, fidelity, one, ENTRIES)
    assert config[KEY.USE_MODAL_WISE_SHIFT] is False
    assert config[KEY.USE_MODAL_WISE_SCALE] is False


def test_readout_as_fcn_has_no_output_site() -> None:
    """Trap 20."""
    with pytest.raises(UserError, match=r"sites: 'output' needs the linear readout"):
        model(readout_as_fcn=True)
    sites = {'sites': ['self_interaction_1']}
    config = model(sites, readout_as_fcn=True, readout_fcn_activation='tanh')
    assert config[KEY.USE_MODAL_OUTPUT_BLOCK] is False
    assert config[KEY.READOUT_FCN_ACTIVATION] == 'tanh'
    assert config[KEY.READOUT_FCN_HIDDEN_NEURONS] == [30, 30]


def test_readout_as_fcn_after_the_host_lost_its_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap 9: model_defaults() drops them for good."""
    table = dict(const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr(const, 'DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG', table)
        const.model_defaults({})
        assert KEY.READOUT_FCN_ACTIVATION not in table
        config = model({'sites': ['node_embedding']}, readout_as_fcn=True)
        assert config[KEY.READOUT_FCN_ACTIVATION] == 'relu'
        config = model(readout_fcn_activation='tanh')
        assert config[KEY.READOUT_FCN_ACTIVATION] == 'tanh'


@pytest.mark.parametrize('shift', [0.0, 'per_atom_energy_mean', [1.0, 2.0]])
def test_shift_is_for_the_references(shift: Any) -> None:
    with pytest.raises(UserError, match=r'data\.shift: .* cannot be combined') as e:
        data(shift=shift)
    assert 'data.fidelity.reference_energies sets the shift' in str(e.value)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('data_format', 'structure_list'),
        ('data_format_args', {'index': ':'}),
        ('save_dataset_path', 'x'),
        ('save_by_label', True),
        ('save_by_train_valid', True),
        ('dataset_type', 'graph'),
        ('rehearsal', True),
    ],
)
def test_what_our_reader_replaces(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f'data.{key} has no effect') as caught:
        data(**{key: value})
    assert 'Remove it' in str(caught.value)


@pytest.mark.parametrize('scale', ['force_rm', 'elemwise_force_rms'])
def test_scale_words(scale: str) -> None:
    with pytest.raises(UserError, match="Did you mean 'force_rms'") as caught:
        data(scale=scale)
    assert str(caught.value).startswith('data.scale must be a number or one of')
    assert data(scale='per_atom_energy_std')[KEY.SCALE] == 'per_atom_energy_std'


def test_what_the_host_refuses_is_one_line() -> None:
    for call in (
        lambda: model(conv_denominator='x'),
        lambda: model(self_connection_type='x'),
        lambda: host_config.train({'error_record': [['Energy', 'X']]}, ORDER),
        lambda: data(scale={'pbe': 1.0}),
        lambda: data(mem_ratio=5),
    ):
        words = r'^(model|train|data)\.\w+: .+: '  # key and value before its words
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert '\n' not in str(caught.value)
