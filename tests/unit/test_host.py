"""The seams: put in once, taken out whole, refused where they do not fit."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import helpers
import pytest
import sevenn
import sevenn._const as const
import sevenn.model_build
import sevenn.parse_input
import yaml
from helpers import INGAN, registered, sections

import sevennet_mf
from sevennet_mf import host, keys
from sevennet_mf.config import inputs
from sevennet_mf.errors import HostError, UserError

NAMES = [(seam.module, seam.name) for seam in host.SEAMS]
TABLES = [
    name
    for name in dir(const)
    if isinstance(getattr(const, name), dict) and not name.startswith('_')
]


def objects() -> list[Any]:
    return [getattr(import_module(module), name) for module, name in NAMES]


def tables() -> dict[str, str]:
    """The host's dictionaries, byte for byte; the order of keys included."""
    return {name: repr(getattr(const, name)) for name in TABLES}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    was = host.is_registered()
    if was:
        sevennet_mf.unregister()
    before, texts = objects(), tables()
    yield
    if host.is_registered():
        sevennet_mf.unregister()
    assert all(now is then for now, then in zip(objects(), before, strict=True))
    assert tables() == texts
    if was:
        sevennet_mf.register()


# ---- in and out


def test_register_and_unregister() -> None:
    before, texts = objects(), tables()
    assert not host.is_registered()
    sevennet_mf.register()
    assert host.is_registered()
    for now, then in zip(objects(), before, strict=True):
        assert now is not then
        assert now.__wrapped__ is then
        assert now.__name__ == then.__name__
    assert const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG[keys.FIDELITY_MODEL] is False
    sevennet_mf.unregister()
    assert all(now is then for now, then in zip(objects(), before, strict=True))
    assert tables() == texts
    assert not host.is_registered()


def test_registering_twice_changes_nothing() -> None:
    sevennet_mf.register()
    once, texts = objects(), tables()
    sevennet_mf.register()
    assert all(now is then for now, then in zip(objects(), once, strict=True))
    assert tables() == texts


def test_unregistering_twice_changes_nothing() -> None:
    sevennet_mf.register()
    sevennet_mf.unregister()
    before = objects()
    sevennet_mf.unregister()
    assert all(now is then for now, then in zip(objects(), before, strict=True))


def test_only_the_seams_change() -> None:
    """Nothing else of the host's modules is another object afterwards."""

    def state() -> dict[tuple[str, str], int]:
        return {
            (name, attribute): id(value)
            for name, module in sys.modules.items()
            if name.split('.')[0] == 'sevenn'
            for attribute, value in vars(module).items()
        }

    for module, _ in NAMES:
        import_module(module)
    before = state()
    sevennet_mf.register()
    changed = {name for name, value in state().items() if before.get(name) != value}
    assert changed == set(NAMES)


def test_importing_is_light_and_changes_nothing() -> None:
    code = (
        'import sys, sevennet_mf; '
        'heavy = {"torch", "sevenn", "numpy", "ase", "e3nn", "pydantic"}; '
        'sys.exit(", ".join(heavy & set(sys.modules)) or 0)'
    )
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sevennet_mf.__version__


# ---- a host that differs


def refused(wanted: str) -> None:
    before, texts = objects(), tables()
    with pytest.raises(HostError) as caught:
        sevennet_mf.register()
    text = str(caught.value)
    assert wanted in text
    assert f'does not work with sevenn {sevenn.__version__}' in text
    assert 'It works with sevenn 0.13.0: pip install sevenn==0.13.0' in text
    assert '\n' not in text
    assert all(now is then for now, then in zip(objects(), before, strict=True))
    assert tables() == texts
    assert not host.is_registered()


@pytest.mark.parametrize(('module', 'name'), NAMES)
def test_another_signature_is_refused(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f'{module}.{name}', lambda other: None)
    refused(f"{module}.{name} takes ('other',), not (")


def test_a_missing_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    seam = host.Seam('sevenn.model_build', 'no_such', (), lambda original: original)
    monkeypatch.setattr(host, 'SEAMS', (*host.SEAMS, seam))
    refused('sevenn.model_build.no_such is missing')


def test_a_missing_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    seam = host.Seam('sevenn.no_such', 'x', (), lambda original: original)
    monkeypatch.setattr(host, 'SEAMS', (*host.SEAMS, seam))
    refused('sevenn.no_such.x is missing')


def test_missing_defaults_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, 'DEFAULTS', ('sevenn._const', 'NO_SUCH_DEFAULTS'))
    refused('sevenn._const.NO_SUCH_DEFAULTS is missing')


def test_somebody_wrapped_a_seam_after_us() -> None:
    sevennet_mf.register()
    ours = sevenn.model_build.patch_modules
    sevenn.model_build.patch_modules = lambda layers, config: ours(layers, config)
    try:
        with pytest.raises(
            HostError, match=r'sevenn\.model_build\.patch_modules was replaced after'
        ):
            sevennet_mf.unregister()
        assert host.is_registered()  # whole, not half
        assert sevenn.parse_input.read_config_yaml.__wrapped__
    finally:
        sevenn.model_build.patch_modules = ours
    sevennet_mf.unregister()


# ---- the host's own YAML goes through untouched

SMALL = {
    'model': {'chemical_species': 'auto', 'cutoff': 4.0, 'channel': 4, 'lmax': 1},
    'train': {'epoch': 1, 'optim_param': {'lr': 0.01}},
    'data': {'batch_size': 2, 'load_trainset_path': [str(INGAN / 'pbe_*.extxyz')]},
}


def modal_entry(name: str, file: str, **more: Any) -> dict[str, Any]:
    files = [{'file': str(INGAN / file)}]
    return {'data_modality': name, 'file_list': files, **more}


# sevenn/presets/multi_modal.yaml with our files and a small model
MULTI_MODAL = {
    'model': {
        **SMALL['model'],
        'use_modal_node_embedding': False,
        'use_modal_self_inter_intro': True,
        'use_modal_self_inter_outro': True,
        'use_modal_output_block': True,
    },
    'train': {**SMALL['train'], 'use_modality': True, 'use_weight': True},
    'data': {
        'batch_size': 2,
        'shift': 'elemwise_reference_energies',
        'scale': 'force_rms',
        'use_modal_wise_shift': True,
        'use_modal_wise_scale': False,
        'load_trainset_path': [
            modal_entry('pbe', 'pbe_train.extxyz', data_weight={'energy': 1.0}),
            modal_entry('scan', 'r2scan_pool.extxyz', data_weight={'force': 10.0}),
        ],
        'load_pbe_validset_path': [modal_entry('pbe', 'pbe_valid.extxyz')],
    },
}


@pytest.mark.parametrize('content', [SMALL, MULTI_MODAL], ids=['plain', 'modal'])
@pytest.mark.parametrize('separately', [True, False])
def test_the_hosts_yaml_is_read_by_the_host(
    content: dict[str, Any], separately: bool, tmp_path: Path
) -> None:
    path = tmp_path / 'input.yaml'
    path.write_text(yaml.safe_dump(content))
    wanted = sevenn.parse_input.read_config_yaml(str(path), separately)
    with registered():
        found = sevenn.parse_input.read_config_yaml(str(path), separately)
        as_one = sevenn.parse_input.read_config_yaml_global(str(path))
    assert repr(found) == repr(wanted)
    wanted = sevenn.parse_input.read_config_yaml_global(str(path))
    assert repr(as_one) == repr(wanted)


@pytest.mark.parametrize(
    'preset', sorted(Path(sevenn.__file__).parent.glob('presets/*.yaml')),
    ids=lambda path: path.stem,
)  # fmt: skip
def test_the_hosts_presets_are_the_hosts(preset: Path) -> None:
    """Most name files that do not exist: the host's own error comes through."""

    def read() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try:
                return repr(sevenn.parse_input.read_config_yaml(str(preset)))
            except (OSError, ValueError) as error:
                return repr(error)

    wanted = read()
    with registered():
        assert read() == wanted


@pytest.mark.parametrize(
    'content', ['model: [', 'other: {}', 'model: {chemical_species: 5}', '- 1']
)
def test_the_hosts_errors_are_the_hosts(content: str, tmp_path: Path) -> None:
    path = tmp_path / 'input.yaml'
    path.write_text(content)

    def error() -> str:
        with pytest.raises((ValueError, AttributeError, yaml.YAMLError)) as caught:
            sevenn.parse_input.read_config_yaml(str(path))
        return f'{type(caught.value).__name__}: {caught.value}'

    wanted = error()
    with registered():
        assert error() == wanted
        with pytest.raises(FileNotFoundError):
            sevenn.parse_input.read_config_yaml(str(tmp_path / 'nowhere.yaml'))


def test_our_flat_key_is_no_key_of_a_yaml(tmp_path: Path) -> None:
    block = {keys.FIDELITY_MODEL: {'encoding': 'bias'}}
    content = {'model': {**SMALL['model'], **block}}
    path = tmp_path / 'input.yaml'
    path.write_text(yaml.safe_dump(content))
    with registered(), pytest.warns(UserWarning, match='Unexpected model keys'):
        sevenn.parse_input.read_config_yaml(str(path))


# ---- ours goes our way


def test_a_fidelity_yaml_is_read_by_us(tmp_path: Path) -> None:
    path = tmp_path / 'input.yaml'
    path.write_text(yaml.safe_dump(sections()))
    model, train, data = inputs.from_sections(sections())
    with registered():
        found = sevenn.parse_input.read_config_yaml(str(path))
        as_one = sevenn.parse_input.read_config_yaml(str(path), False)
        assert sevenn.parse_input.read_config_yaml_global(str(path)) == as_one
    assert found == (model, train, data)
    assert as_one == {**model, **train, **data}


def test_our_errors_are_the_users(tmp_path: Path) -> None:
    path = tmp_path / 'input.yaml'
    path.write_text('model: {fidelity: {encodin: bias}}')
    with registered(), pytest.raises(UserError, match="Did you mean 'encoding'"):
        sevenn.parse_input.read_config_yaml(str(path))


def test_training_goes_to_us_with_a_fidelity_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sevenn.scripts.train

    import sevennet_mf.train.run

    calls: list[tuple[Any, ...]] = []
    # the host's parameters: its signature is checked
    monkeypatch.setattr(
        sevenn.scripts.train,
        'train_v2',
        lambda config, working_dir: calls.append(('host', working_dir)),
    )
    monkeypatch.setattr(
        sevennet_mf.train.run,
        'train',
        lambda asked, working_dir, process: calls.append(
            (asked.order, working_dir, process.rank, process.world_size)
        ),
    )
    config = inputs.read(sections()).merged()
    second_of_four = {'rank': 1, 'local_rank': 1, 'world_size': 4}
    with registered():
        sevenn.scripts.train.train_v2({}, 'a')
        sevenn.scripts.train.train_v2(config, 'b')
        sevenn.scripts.train.train_v2({**config, **second_of_four}, 'c')
    names = list(helpers.NAMES)
    assert calls == [('host', 'a'), (names, 'b', 0, 1), (names, 'c', 1, 4)]
