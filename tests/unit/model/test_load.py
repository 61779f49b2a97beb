"""Checkpoints by path or by name, and what is no checkpoint."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import sevenn
import sevenn._keys as KEY
import sevenn.checkpoint
import torch
from accelerators import FLAGS, is_accelerated, pretend, pretend_absent
from helpers import (
    assert_close,
    evaluate,
    model_config,
    save_checkpoint,
    structures,
    trained,
)

from sevennet_mf import host, keys
from sevennet_mf.errors import UserError
from sevennet_mf.model import accelerators
from sevennet_mf.model.load import load_model, read_checkpoint


@pytest.fixture(scope='module')
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model, config = trained()
    path = tmp_path_factory.mktemp('load') / 'checkpoint.pth'
    save_checkpoint(path, model, config)
    return torch.load(path, weights_only=False)


def saved(content: dict[str, Any], path: Path, **config: Any) -> str:
    torch.save({**content, 'config': {**content['config'], **config}}, path)
    return str(path)


def test_own_checkpoint(content: dict[str, Any], tmp_path: Path) -> None:
    path = saved(content, tmp_path / 'c.pth', **{keys.PROVENANCE: {'target': 'pbe'}})
    loaded = load_model(path)
    assert loaded.fidelities == ('pbe', 'r2scan')
    assert loaded.cutoff == 4.0
    assert sorted(loaded.type_map) == [7, 31, 49]
    assert loaded.provenance == {'target': 'pbe'}
    assert loaded.path == path
    assert not loaded.model.training
    assert host.is_registered()
    state = loaded.model.state_dict()
    for name, value in content['model_state_dict'].items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize(
    ('name', 'fidelities'),
    [
        ('7net-0', ('model',)),
        ('SevenNet-MF-0', ('R2SCAN', 'PBE')),  # the order of its modal map
    ],
)
def test_pretrained_names(name: str, fidelities: tuple[str, ...]) -> None:
    loaded = load_model(name)
    assert loaded.fidelities == fidelities
    assert loaded.provenance == {}
    assert len(loaded.type_map) == 89


def test_single_fidelity_is_named_by_its_provenance(tmp_path: Path) -> None:
    model, config = trained(names=('pbe',))
    config[keys.PROVENANCE] = {'fidelities': ['pbe']}
    path = save_checkpoint(tmp_path / 'c.pth', model, config)
    assert load_model(str(path)).fidelities == ('pbe',)


def bad_files(content: dict[str, Any], folder: Path) -> dict[str, Path]:
    whole = folder / 'whole.pth'
    torch.save(content, whole)
    files = {
        'random': b'\x93\x11 no pickle at all',
        'text': b'hello\n',
        'empty': b'',
        'half': whole.read_bytes()[: whole.stat().st_size // 2],
    }
    paths = {}
    for name, data in files.items():
        paths[name] = folder / f'{name}.pth'
        paths[name].write_bytes(data)
    paths['zip'] = folder / 'zip.pth'
    with zipfile.ZipFile(paths['zip'], 'w') as archive:
        archive.writestr('readme.txt', 'hello')
    paths['weights only'] = folder / 'weights.pth'
    torch.save(content['model_state_dict'], paths['weights only'])
    paths['a list'] = folder / 'list.pth'
    torch.save([1, 2], paths['a list'])
    return paths


@pytest.mark.parametrize(
    'kind', ['random', 'text', 'empty', 'half', 'zip', 'weights only', 'a list']
)
def test_what_is_no_checkpoint(
    content: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    path = bad_files(content, tmp_path)[kind]
    with pytest.raises(UserError, match=f'{path.name} is not a SevenNet') as error:
        load_model(str(path))
    assert '\n' not in str(error.value)


def test_deployed_model_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / 'deployed.pt'
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(2)).save(path)
    with pytest.raises(UserError, match='is a deployed model'):
        load_model(str(path))


def test_newer_versions_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    path = saved(content, tmp_path / 'c.pth', version='9.1.0')
    wanted = f'sevenn 9.1.0, newer than the installed {sevenn.__version__}'
    with pytest.raises(UserError, match=wanted):
        load_model(path)
    provenance = {'versions': {'sevennet_mf': '9.0'}}
    path = saved(content, tmp_path / 'c.pth', **{keys.PROVENANCE: provenance})
    with pytest.raises(UserError, match=r'sevennet_mf 9\.0, newer'):
        load_model(path)
    with pytest.raises(UserError, match='does not contain the version'):
        load_model(saved(content, tmp_path / 'c.pth', version=None))


def test_a_model_that_cannot_be_built(
    content: dict[str, Any], tmp_path: Path
) -> None:
    config = model_config()[keys.FIDELITY_MODEL]
    changed = {keys.FIDELITY_MODEL: {**config, 'encoding': 'of tomorrow'}}
    path = saved(content, tmp_path / 'c.pth', **changed)
    with pytest.raises(UserError, match='its model cannot be built.*of tomorrow'):
        load_model(path)
    path = saved(content, tmp_path / 'c.pth', **{KEY.NODE_FEATURE_MULTIPLICITY: 6})
    with pytest.raises(UserError, match='its model cannot be built') as error:
        load_model(path)
    assert '\n' not in str(error.value)


def test_read_checkpoint_returns_the_file(
    content: dict[str, Any], tmp_path: Path
) -> None:
    path = saved(content, tmp_path / 'c.pth')
    found, read = read_checkpoint(path)
    assert found == path
    assert read['hash'] == content['hash']


# ---- with an accelerator


@pytest.mark.parametrize('flag', FLAGS)
def test_with_an_accelerator_and_without_again(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pretend(monkeypatch)
    model, config = trained('gain')
    path = str(save_checkpoint(tmp_path / 'a.pth', model, config))
    fast = load_model(path, **{flag: True})
    assert is_accelerated(fast.model)
    assert [f for f, on in accelerators.asked(fast.config).items() if on] == [flag]
    trained_with = str(save_checkpoint(tmp_path / 'b.pth', fast.model, fast.config))
    again = load_model(trained_with, **{flag: True})
    assert is_accelerated(again.model)
    pretend_absent(monkeypatch)  # another machine
    back = load_model(trained_with)
    assert not is_accelerated(back.model)
    # who builds from this configuration gets the same model
    assert accelerators.name_of(back.config) is None
    atoms, names = structures(2), ['pbe', 'r2scan']
    wanted = evaluate(model, atoms, names)
    for loaded in (fast, again, back):
        assert_close(evaluate(loaded.model, atoms, names), wanted)
    assert capsys.readouterr().out == ''  # the host tells of its conversion


def test_a_file_of_an_old_version_with_an_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host sorts its weights on the way."""
    pretend(monkeypatch)
    model = load_model('7net-0', enable_oeq=True).model
    plain = load_model('7net-0').model
    wanted = evaluate(plain, structures(1), [None], 5.0)
    assert_close(evaluate(model, structures(1), [None], 5.0), wanted)


def test_an_accelerator_that_is_missing(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_absent(monkeypatch)
    path = saved(content, tmp_path / 'c.pth')
    words = 'FlashTP was requested, but it is not installed here or has no GPU'
    with pytest.raises(UserError, match=words):
        load_model(path, enable_flash=True)
    # what the file was trained with is not asked for
    load_model(saved(content, tmp_path / 'd.pth', **{KEY.USE_FLASH_TP: True}))


def test_an_accelerator_that_would_lose_a_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    model, config = trained(use_bias_in_linear=True)
    path = str(save_checkpoint(tmp_path / 'c.pth', model, config))
    load_model(path, enable_flash=True)
    with pytest.raises(UserError, match='linear layers have biases'):
        load_model(path, enable_cueq=True)
    # if the host forgets one
    convert = sevenn.checkpoint._convert_e3nn_and_cueq

    def forget(*args: Any, **kwargs: Any) -> dict[str, Any]:
        result = convert(*args, **kwargs)
        name = '0_self_interaction_1.linear.weight'
        return {**result, name: torch.zeros_like(result[name])}

    monkeypatch.setattr('sevenn.checkpoint._convert_e3nn_and_cueq', forget)
    words = r'c\.pth: 0_self_interaction_1\.linear\.weight would be lost'
    with pytest.raises(UserError, match=words):
        load_model(path, enable_flash=True)
