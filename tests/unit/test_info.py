"""What `info` tells of every kind of file, the host's and ours."""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sevenn
import sevenn._keys as KEY
import torch
from accelerators import converted, pretend
from helpers import host_config, registered, save_checkpoint, trained
from rich.console import Console
from sevenn.scripts.deploy import deploy as host_deploy
from sevenn.scripts.deploy import deploy_parallel as host_deploy_parallel

from sevennet_mf import keys
from sevennet_mf.checkpoint.shipped import find_checkpoint
from sevennet_mf.deploy.export import export
from sevennet_mf.deploy.torchscript import deploy
from sevennet_mf.errors import UserError
from sevennet_mf.info import info, render
from sevennet_mf.info.common import nothing_known
from sevennet_mf.model import accelerators

PROVENANCE = {
    'fidelities': ['pbe', 'r2scan'],
    'order': ['pbe', 'r2scan'],
    'base': 'pbe',
    'target': 'r2scan',
    'about': {'r2scan': {'functional': 'r2SCAN', 'dispersion': None}},
    'reference_energies': {
        'pbe': {
            s: {'energy': -3.0, 'std': 0.02, 'determined': True}
            for s in ('Ga', 'In', 'N')
        },
        'r2scan': {
            'Ga': {'energy': -4.0, 'std': 0.1, 'determined': True},
            'In': {'energy': -4.0, 'std': None, 'determined': False},
            'N': {'energy': -4.0, 'std': 0.1, 'determined': True},
        },
    },
    'data': {
        'trainset': {
            'pbe': {'structures': 164, 'atoms': 1100, 'force': 164},
            'r2scan': {'structures': 29, 'atoms': 180, 'force': 29},
        },
        'validset': {'r2scan': {'structures': 13}},
    },
    'files': {'trainset: pbe.extxyz': 'ab' * 32},
    'versions': {'sevennet_mf': '0.0.1', 'torch': '2.13.0'},
    'defaults': {'recipe': {'loss': 'huber', 'loss_param': {'delta': 0.01}}},
}


@pytest.fixture(autouse=True)
def _leave_registration_as_it_was() -> Iterator[None]:
    with registered():
        yield


def shown(found: dict[str, Any]) -> str:
    stream = io.StringIO()
    Console(width=110, file=stream).print(render(found))
    return stream.getvalue()


def ours(path: Path, **changes: Any) -> str:
    model, config = trained('lora')
    config[keys.PROVENANCE] = {**PROVENANCE, **changes}
    return str(save_checkpoint(path, model, config))


def test_own_checkpoint(tmp_path: Path) -> None:
    found = info(ours(tmp_path / 'c.pth'))
    json.dumps(found, allow_nan=False)  # plain builtins only
    assert found['kind'] == 'checkpoint of sevennet_mf'
    assert found['sevenn'] == sevenn.__version__
    assert (found['epoch'], found['when']) == (1, '2026-01-01 00:00')
    assert found['hash'] == '0' * 32
    assert found['elements'] == ['N', 'Ga', 'In']
    assert found['fidelities'] == found['order'] == ['pbe', 'r2scan']
    assert (found['base'], found['target']) == ('pbe', 'r2scan')
    assert (found['encoding'], found['rank']) == ('lora', 4)
    assert found['scale'] == 'shared'
    sites = ['self_interaction_1', 'self_interaction_2', 'output']
    assert found['sites'] == sites
    architecture = found['architecture']
    assert architecture['channel'] == 4
    assert (architecture['lmax'], architecture['layers']) == (1, 2)
    assert architecture['cutoff'] == 4.0
    # of the weights, not of the provenance: helpers.py puts -3 and -4 there
    references = found['reference_energies']
    assert references['pbe']['Ga'] == {
        'energy': -3.0,
        'std': 0.02,
        'determined': True,
    }
    assert references['r2scan']['In']['energy'] == -4.0
    assert found['files'] == PROVENANCE['files']
    assert found['best'] == {'metric': 'TotalLoss', 'value': None, 'epoch': None}
    (warning,) = found['warnings']
    assert warning.startswith('r2scan: not determined for In;')


def test_what_is_shown(tmp_path: Path) -> None:
    text = shown(info(ours(tmp_path / 'c.pth')))
    assert re.search('defaults by recipe .* loss: huber, loss_param: {delta:', text)
    for part in (
        '4 channels, lmax 1, 2 layers, cutoff 4 Å',
        'pbe < r2scan',
        'lora of rank 4, scale shared',
        'functional: r2SCAN',
        '-3.000 ± 0.02',
        '-4.000 not determined',
        'trainset',
        '1100',
        'abababababab',
        'torch 2.13.0',
        'Warning: r2scan: not determined for In',
    ):
        assert part in text, part


@pytest.mark.parametrize('energy', [0.0012, None])
def test_inferred_labels_are_shown(tmp_path: Path, energy: float | None) -> None:
    said = {
        'base': 'pbe',
        'target': 'r2scan',
        'paired': 24,
        'inferred': 140,
        'errors': {'energy': energy},
    }
    text = shown(info(ours(tmp_path / 'c.pth', inferred_labels=said)))
    assert '140 of r2scan, from pbe through 24 structures with both' in text
    assert ('error 1.2 meV/atom' in text) == (energy is not None)
    nothing = shown(info(ours(tmp_path / 'd.pth', inferred_labels={'inferred': 0})))
    assert 'inferred labels' not in nothing


@pytest.mark.parametrize(
    ('source', 'key'), [('provenance', 'value'), ('state', 'best')]
)
def test_best_value(tmp_path: Path, source: str, key: str) -> None:
    best = {key: 0.25, 'epoch': 7, 'best_epoch': 7}
    changes = {'best': best} if source == 'provenance' else {}
    path = ours(tmp_path / 'c.pth', **changes)
    if source == 'state':
        content = torch.load(path, weights_only=False)
        torch.save({**content, keys.TRAINING_STATE: {'state': best}}, path)
    found = info(path)
    assert found['best'] == {'metric': 'TotalLoss', 'value': 0.25, 'epoch': 7}
    assert 'TotalLoss 0.25 (epoch 7)' in shown(found)


def test_multi_modal_checkpoint_of_the_host() -> None:
    found = info('7net-mf-0')
    assert found['sevenn'] == '0.9.4'
    assert found['fidelities'] == ['R2SCAN', 'PBE']
    assert found['order'] is found['when'] is found['hash'] is None
    assert found['kind'] == 'checkpoint of SevenNet'
    assert found['encoding'] == 'bias'
    sites = ['self_interaction_1', 'self_interaction_2', 'output']
    assert found['sites'] == sites
    assert len(found['elements']) == 89
    assert found['data'] == found['files'] == found['versions'] == {}
    # -3.58 eV: the shift in the file that ships with sevenn 0.13.0 (trap 1)
    (warning,) = found['warnings']
    assert warning.startswith('Yb: its reference energy is 0 at R2SCAN but -3.58 eV')
    text = shown(found)
    assert '│ Yb │' in text
    assert '-3.585' in text
    assert 'not determined' not in text


def test_single_fidelity_checkpoint_of_the_host() -> None:
    found = info('7net-0')
    assert found['fidelities'] == ['model']
    assert found['encoding'] is None
    assert found['sites'] == found['warnings'] == []
    assert (found['architecture']['channel'], found['epoch']) == (128, 600)
    assert found['architecture']['parity'] is False
    # config of the shipped checkpoint
    energy = found['reference_energies']['model']['Ga']
    assert energy == {
        'energy': pytest.approx(-3.527, abs=1e-3),
        'std': None,
        'determined': None,
    }
    assert 'encoding' not in shown(found)


def test_untrained_fidelity_biases_and_nan(tmp_path: Path) -> None:
    data = {'trainset': {'pbe': {'structures': 3}}}
    model, config = trained(use_bias_in_linear=True)
    config[keys.PROVENANCE] = {'data': data}
    with torch.no_grad():
        next(p for p in model.parameters() if p.numel() > 3).fill_(float('nan'))
    path = save_checkpoint(tmp_path / 'c.pth', model, config)
    found = info(str(path))
    nan, untrained, biases = found['warnings']
    assert nan.startswith('weights are NaN')
    assert untrained == 'r2scan had no training structures.'
    assert 'SevenNet alone silently drops' in biases
    assert 'export --accelerated' in biases
    json.dumps(found, allow_nan=False)
    assert found['architecture']['linear_bias'] is True


def test_one_number_for_all_elements(tmp_path: Path) -> None:
    model, config = trained(names=('pbe',))
    config[KEY.SHIFT] = -3.0
    found = info(str(save_checkpoint(tmp_path / 'c.pth', model, config)))
    energies = found['reference_energies']['model']
    assert {e['energy'] for e in energies.values()} == {-3.0}


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no such file'):
        info(str(tmp_path / 'gone.pth'))


def test_a_weight_that_is_no_number_is_shown(tmp_path: Path) -> None:
    model, config = trained()
    with torch.no_grad():
        model.get_parameter('rescale_atomic_energy.shift')[0, 0] = float('nan')
    found = info(str(save_checkpoint(tmp_path / 'c.pth', model, config)))
    json.dumps(found, allow_nan=False)
    assert 'rescale_atomic_energy.shift' in found['warnings'][0]
    assert 'not a number' in shown(found)


def test_trained_with_an_accelerator(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretend(monkeypatch)
    model, config = trained('lora')
    path = save_checkpoint(tmp_path / 'a.pth', model, config)
    fast = converted(path, 'enable_oeq')
    accelerators.switch(config, enable_oeq=True)
    path = save_checkpoint(tmp_path / 'b.pth', fast, config)
    capsys.readouterr()
    found = info(str(path))
    assert capsys.readouterr().out == ''  # the host would spoil the JSON
    assert found['accelerator'] == 'OpenEquivariance'
    assert 'OpenEquivariance' in shown(found)


# ---- made from a checkpoint


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every kind of file there is, from one checkpoint."""
    folder = tmp_path_factory.mktemp('made')
    with registered():
        path = ours(folder / 'c.pth')
        model, config = trained()
        theirs = str(
            save_checkpoint(folder / 'host.pth', model, host_config(config))
        )
        host_deploy(theirs, f'{folder}/host.pt', modal='pbe')
        host_deploy_parallel(theirs, f'{folder}/host', modal='pbe')
        common = {'fidelity': 'common', 'references': 'pbe'}
        fast, common_file = f'{folder}/fast.pth', f'{folder}/common.pth'
        return {
            'training': path,
            'modal': theirs,
            'plain': find_checkpoint('7net-0'),
            'export': export(path, f'{folder}/r2scan.pth', 'r2scan')[0],
            'common': export(path, common_file, **common)[0],
            'accelerated': export(path, fast, 'r2scan', accelerated=True)[0],
            'deployed': deploy(path, f'{folder}/r2scan.pt', 'r2scan')[0][0],
            'segment': deploy(path, f'{folder}/par', 'r2scan', parallel=True)[0][1],
            'folder': f'{folder}/par',
            "host's deployed": f'{folder}/host.pt',
            "host's segment": f'{folder}/host/deployed_parallel_1.pt',
            "host's folder": f'{folder}/host',
        }


KINDS = {
    'training': 'checkpoint of sevennet_mf',
    'modal': 'checkpoint of SevenNet',
    'plain': 'checkpoint of SevenNet',
    'export': 'export',
    'common': 'export',
    'accelerated': 'accelerated export',
    'deployed': 'deployed',
    'segment': 'deployed segment',
    'folder': 'deployed folder',
    "host's deployed": 'deployed',
    "host's segment": 'deployed segment',
    "host's folder": 'deployed folder',
}
UNDETERMINED = 'r2scan: not determined for In; no label of this fidelity'


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_is_complete(made: dict[str, str], kind: str) -> None:
    found = info(made[kind])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found.keys() == nothing_known('', '').keys()
    assert found['kind'] == KINDS[kind]
    assert found['sevenn']
    assert found['architecture']['cutoff'] in (4.0, 5.0)
    assert len(found['elements']) in (3, 89)
    assert (found['deployed'] is None) == ('deployed' not in KINDS[kind])
    text = shown(found)
    assert KINDS[kind] in text
    assert f'{found["architecture"]["cutoff"]:g} Å' in text


@pytest.mark.parametrize(
    'kind', ['export', 'accelerated', 'deployed', 'segment', 'folder']
)
def test_where_a_file_comes_from(made: dict[str, str], kind: str) -> None:
    found = info(made[kind])
    folded = found['folded_from']
    assert (folded['file'], folded['encoding']) == ('c.pth', 'lora')
    assert (folded['fidelity'], folded['references']) == ('r2scan', 'r2scan')
    assert len(folded['sha256']) == 64
    assert found['order'] == ['pbe', 'r2scan']
    assert found['about'] == PROVENANCE['about']
    assert found['files'] == PROVENANCE['files']
    assert found['trained_with'] == PROVENANCE['versions']
    assert found['versions']['sevenn'] == sevenn.__version__
    assert found['fidelities'][0] == 'r2scan'
    nitrogen = found['reference_energies']['r2scan']['N']
    # an accelerated export has one more term in it
    assert nitrogen['energy'] == -4.0 or kind == 'accelerated'
    assert nitrogen['std'] == 0.1
    warned = [line for line in found['warnings'] if 'not determined' in line]
    assert len(warned) == 1
    assert warned[0].startswith(UNDETERMINED)
    text = shown(found)
    assert 'folded from' in text
    assert 'sha256' in text


@pytest.mark.parametrize('kind', ['deployed', 'segment', 'folder'])
def test_a_deployed_file_knows_its_model(made: dict[str, str], kind: str) -> None:
    found = info(made[kind])
    assert found['architecture'] == info(made['export'])['architecture']
    assert '4 channels, lmax 1, 2 layers, cutoff 4 Å' in shown(found)


def test_versions_are_told_once(made: dict[str, str]) -> None:
    found = info(made['deployed'])
    found['trained_with'] = dict(found['versions'])
    assert 'trained with' not in shown(found)
    found['trained_with']['torch'] = '1.0'
    text = ' '.join(shown(found).split())
    assert 'trained with │ torch 1.0, the others as above' in text
    assert text.count(f'sevenn {sevenn.__version__}') == 1


def test_the_common_potential(made: dict[str, str]) -> None:
    found = info(made['common'])
    assert found['fidelities'] == ['common']
    assert found['reference_energies']['common']['Ga']['std'] == 0.02
    assert 'common, reference energies of pbe, lora' in shown(found)
    (biases,) = found['warnings']
    assert 'biases' in biases


def test_an_accelerated_export_has_no_biases_to_lose(made: dict[str, str]) -> None:
    assert 'biases' not in ' '.join(info(made['accelerated'])['warnings'])
    assert 'biases' in ' '.join(info(made['export'])['warnings'])


def test_what_the_host_writes_for_lammps(made: dict[str, str]) -> None:
    found = info(made["host's deployed"])
    assert found['deployed']['pair_style'] == 'e3gnn'
    assert found['deployed']['flashTP'] is False
    assert found['warnings'] == found['fidelities'] == []
    segment = info(made["host's segment"])['deployed']
    assert (segment['pair_style'], segment['segment']) == ('e3gnn/parallel', 1)
    found = info(made["host's folder"])
    assert found['deployed']['segments'] == 2
    assert found['deployed']['comm_size'] == segment['comm_size'] > 0
    assert found['warnings'] == []
    text = shown(found)
    for part in ('e3gnn/parallel', 'segments', 'numbers per ghost', 'single'):
        assert part in text, part
    assert 'folded from' not in text


def test_a_zero_at_one_fidelity_goes_along(tmp_path: Path) -> None:
    """A single fidelity does not show any more that another one has an energy."""
    model, config = trained()
    with torch.no_grad():  # r2scan; In is the second element of the three
        model.get_parameter('rescale_atomic_energy.shift')[1, 1] = 0.0
    path = save_checkpoint(tmp_path / 'c.pth', model, config)
    exported, _ = export(str(path), str(tmp_path / 'r.pth'), 'r2scan')
    zero, biases = info(exported)['warnings']
    assert zero.startswith('In: its reference energy is 0 at r2scan but -3.00 eV')
    assert 'biases' in biases


# ---- a parallel folder that is not whole


@pytest.fixture(params=["host's folder", 'folder'])
def parallel(
    made: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> Path:
    shutil.copytree(made[request.param], tmp_path / 'copy')
    return tmp_path / 'copy'


def test_segments_that_are_missing(parallel: Path) -> None:
    last = parallel / 'deployed_parallel_1.pt'
    first = parallel / 'deployed_parallel_0.pt'
    content = last.read_bytes()
    last.unlink()
    assert warned_of(parallel, '_1.pt is missing')
    last.write_bytes(content)
    first.unlink()
    assert warned_of(parallel, '_0.pt is missing')
    last.unlink()
    with pytest.raises(UserError, match='is a folder'):
        info(str(parallel))


def warned_of(folder: Path, words: str) -> bool:
    return any(words in line for line in info(str(folder))['warnings'])


def test_segments_that_are_too_many(parallel: Path) -> None:
    last = parallel / 'deployed_parallel_1.pt'
    shutil.copy(last, parallel / 'deployed_parallel_2.pt')
    assert warned_of(parallel, '_2.pt is superfluous: the model has 2 segments')
    (parallel / 'deployed_parallel_2.pt').unlink()
    (parallel / 'notes.txt').write_text('')
    assert warned_of(parallel, 'notes.txt is not a segment')


def test_segments_of_several_models(parallel: Path) -> None:
    path = parallel / 'deployed_parallel_1.pt'
    changed(path, path, cutoff='4.5')
    assert warned_of(parallel, '_1.pt belongs to another model than deployed')
    assert warned_of(parallel, 'its cutoff is 4.5, not 4.0. Deploy again')


def changed(source: Path | str, path: Path, **entries: str) -> str:
    """A deployed file with other metadata."""
    with zipfile.ZipFile(source) as old:
        content = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, 'w') as new:
        for name, data in content.items():
            entry = entries.get(name.split('/')[-1])
            new.writestr(name, data if entry is None else entry)
    return str(path)


@pytest.mark.parametrize(
    ('key', 'name'), [('flashTP', 'FlashTP'), ('oeq', 'OpenEquivariance')]
)
def test_deployed_with_an_accelerator(
    made: dict[str, str], tmp_path: Path, key: str, name: str
) -> None:
    path = changed(made["host's deployed"], tmp_path / 'fast.pt', **{key: 'yes'})
    found = info(path)
    assert found['accelerator'] == name
    (warning,) = found['warnings']
    assert warning.startswith(f'deployed with {name}: LAMMPS needs a GPU')


# ---- what is no model


def test_what_is_no_deployed_model(made: dict[str, str], tmp_path: Path) -> None:
    whole = Path(made['deployed']).read_bytes()
    half = tmp_path / 'half.pt'
    half.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r'half\.pt is not .*or it is truncated'):
        info(str(half))
    other = tmp_path / 'other.zip'
    with zipfile.ZipFile(other, 'w') as archive:
        archive.writestr('readme.txt', 'hello')
    with pytest.raises(UserError, match='is not a SevenNet checkpoint'):
        info(str(other))
    script = tmp_path / 'script.pt'
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(2)).save(script)
    with pytest.raises(UserError, match='is not a deployed SevenNet model'):
        info(str(script))
    with pytest.raises(UserError, match='is a folder'):
        info(str(tmp_path))
