"""`deploy` writes the host's files for LAMMPS, with provenance, whole or not."""

from __future__ import annotations

import argparse
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sevenn
import sevenn._keys as KEY
import torch
from helpers import NAMES, evaluate, graph, save_checkpoint, structures, trained
from sevenn.scripts.deploy import deploy as host_deploy

from sevennet_mf import keys
from sevennet_mf.deploy import torchscript
from sevennet_mf.deploy.deployed import FAST_FILE, extra_files
from sevennet_mf.deploy.export import export
from sevennet_mf.deploy.folded import Folded, quiet
from sevennet_mf.deploy.torchscript import deploy, read_deployed
from sevennet_mf.errors import HostError, UserError
from sevennet_mf.kernels import library
from sevennet_mf.model import tabulated
from sevennet_mf.model.load import load_model


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two fidelities of low rank, as training writes them."""
    model, config = trained('lora')
    config[keys.PROVENANCE] = {'fidelities': list(NAMES), 'target': 'r2scan'}
    path = tmp_path_factory.mktemp('trained') / 'checkpoint_best.pth'
    return str(save_checkpoint(path, model, config))


@pytest.fixture(scope='module')
def of_pbe(
    checkpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Folded]:
    """The file of one fidelity, which is only read, and what was folded."""
    target = tmp_path_factory.mktemp('deployed') / 'a.pt'
    (path,), folded = deploy(checkpoint, str(target), 'pbe')
    return path, folded


def computed(paths: list[str]) -> torch.Tensor:
    """Energy of a real cell, segments one after the other."""
    (atoms,) = structures(1)
    type_map = {'Ga': 0, 'In': 1, 'N': 2}  # as chemical_symbols_to_index says
    data = {
        name: value
        for name, value in graph(atoms, None).to_dict().items()
        if isinstance(value, torch.Tensor)
    }
    data[KEY.NODE_FEATURE] = torch.tensor([type_map[s] for s in atoms.symbols])
    data[KEY.NLOCAL] = torch.tensor([len(atoms)])
    for path in paths:
        data[KEY.NODE_FEATURE_GHOST] = data[KEY.NODE_FEATURE][:0]
        data = torch.jit.load(path)(data)
    return data[KEY.PRED_TOTAL_ENERGY].detach().reshape(())


@pytest.mark.parametrize('parallel', [False, True])
def test_the_files_compute_the_fidelity(
    parallel: bool, checkpoint: str, tmp_path: Path, capsys: Any
) -> None:
    paths, made = deploy(
        checkpoint, str(tmp_path / 'new' / 'r2scan'), 'r2scan', parallel=parallel
    )
    names = [os.path.relpath(path, tmp_path / 'new') for path in paths]
    if parallel:  # one segment per convolution
        wanted_names = [f'r2scan/deployed_parallel_{i}.pt' for i in range(2)]
    else:
        wanted_names = ['r2scan.pt']
    assert names == wanted_names
    model = load_model(checkpoint).model
    wanted = evaluate(model, structures(1), ['r2scan'])['energy'][0]
    assert computed(paths) == pytest.approx(float(wanted), abs=1e-4)
    assert made.deviation.holds
    assert capsys.readouterr() == ('', '')  # nothing of the host's

    found = read_deployed(str(tmp_path / 'new' / 'r2scan') if parallel else paths[0])
    assert found['kind'] == ('parallel' if parallel else 'serial')
    assert found['segments'] == len(paths)
    assert found['elements'] == ['Ga', 'In', 'N']
    assert found['cutoff'] == 4.0
    assert found['num_species'] == 3
    assert (found['comm_size'] is not None) is parallel
    assert found['version'] == sevenn.__version__
    assert found['model_type'] == 'E3_equivariant_model'
    assert not found['flashTP']
    assert found['provenance']['fidelities'] == ['r2scan']
    assert found['provenance']['target'] == 'r2scan'
    assert found['provenance']['folded']['file'] == 'checkpoint_best.pth'


def test_what_the_host_says_of_a_file_stays(
    of_pbe: tuple[str, Folded], tmp_path: Path
) -> None:
    """Ours stands beside it, as an entry of TorchScript's own kind."""
    path, folded = of_pbe
    source, hosts = str(tmp_path / 'folded.pth'), str(tmp_path / 'host.pt')
    torch.save(folded.content, source)
    with quiet():
        host_deploy(source, hosts)
    said = {}
    for file in (path, hosts):
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            said[file] = extra_files(archive)
    extra = dict.fromkeys(said[path], '')
    torch.jit.load(path, _extra_files=extra)
    assert b'"fidelities": [' in extra['sevennet_mf.json']
    for name in ('sevennet_mf.json', 'sevennet_mf_segment'):
        assert said[path].pop(name)
    assert said[path] == said[hosts]


def test_weights_of_paths_are_one_split(of_pbe: tuple[str, Folded]) -> None:
    """Which makes the gradient cheaper; the numbers are checked before writing."""
    graph = str(torch.jit.load(of_pbe[0]).graph)
    assert 'aten::split_with_sizes' in graph


def test_common_and_what_the_command_says(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = argparse.Namespace(
        checkpoint=checkpoint,
        fidelity='common',
        references='pbe',
        output=None,
        parallel=True,
        no_table=False,
    )
    said = torchscript.run(args)
    assert '2 segments for pair_style e3gnn/parallel' in said
    assert 'fidelity common, reference energies of pbe' in said
    assert len(list((tmp_path / 'checkpoint_best_common_parallel').iterdir())) == 2
    args.parallel = False
    assert 'checkpoint_best_common.pt: a model for pair_style e3gnn\n' in (
        torchscript.run(args)
    )


def test_the_hosts_own_files_are_read(checkpoint: str, tmp_path: Path) -> None:
    plain, _ = export(checkpoint, str(tmp_path / 'p.pth'), 'pbe')
    host_deploy(plain, str(tmp_path / 'host.pt'))
    found = read_deployed(str(tmp_path / 'host.pt'))
    assert found['elements'] == ['Ga', 'In', 'N']
    assert found['provenance'] == {}
    assert found['hash'] is None


# ---- replaced whole, or not at all


def test_segments_of_a_bigger_model_go(checkpoint: str, tmp_path: Path) -> None:
    folder = tmp_path / 'segments'
    folder.mkdir()
    for i in range(5):
        (folder / f'deployed_parallel_{i}.pt').write_text('of a bigger model')
    deploy(checkpoint, str(folder), 'pbe', parallel=True)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ['deployed_parallel_0.pt', 'deployed_parallel_1.pt']
    assert [path.name for path in tmp_path.iterdir()] == ['segments']
    assert os.access(folder, os.R_OK | os.X_OK)
    assert read_deployed(str(folder))['segments'] == 2


def test_a_folder_with_other_files_stays(checkpoint: str, tmp_path: Path) -> None:
    folder = tmp_path / 'work'
    folder.mkdir()
    (folder / 'in.lmp').write_text('mine')
    with pytest.raises(UserError, match=r"contains 'in.lmp'.*Give another folder"):
        deploy(checkpoint, str(folder), 'pbe', parallel=True)
    assert [path.name for path in folder.iterdir()] == ['in.lmp']
    with pytest.raises(UserError, match=r'in\.lmp is not one'):
        deploy(checkpoint, str(folder / 'in.lmp'), 'pbe', parallel=True)
    (tmp_path / 'x.pt').mkdir()
    with pytest.raises(UserError, match='is a folder; give the name of a file'):
        deploy(checkpoint, str(tmp_path / 'x'), 'pbe')


@pytest.mark.parametrize('parallel', [False, True])
def test_a_failed_write_leaves_what_was_there(
    parallel: bool, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / 'old.pt'
    inside = target / 'deployed_parallel_0.pt' if parallel else target
    inside.parent.mkdir(exist_ok=True)
    inside.write_text('before')
    rename = os.rename

    def fail(source: str, place: str) -> None:
        if place == str(target) and 'new' in source:
            raise OSError(28, 'No space left on device')
        rename(source, place)

    def full(source: str, place: str) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'rename', fail)
    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(UserError, match='cannot be written: No space left'):
        deploy(checkpoint, str(target), 'pbe', parallel=parallel)
    assert inside.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [target]


def test_a_wrong_deployed_model_is_refused(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(source: str, target: str) -> None:
        content = torch.load(source, weights_only=True)
        content['model_state_dict']['rescale_atomic_energy.shift'] += 1e-4
        torch.save(content, source)
        host_deploy(source, target)

    monkeypatch.setattr(torchscript, 'host_deploy', wrong)
    with pytest.raises(UserError, match='deployed model differs .* 1.0e-04'):
        deploy(checkpoint, str(tmp_path / 'a.pt'), 'pbe')
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_deploys_another_form_is_named(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As omni-train's, which reads positions; its signature is the same."""

    class OfPositions(torch.nn.Module):
        def forward(self, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {KEY.PRED_TOTAL_ENERGY: data['pos'].sum()}

    def other(source: str, target: str) -> None:
        torch.jit.script(OfPositions()).save(target)

    monkeypatch.setattr(torchscript, 'host_deploy', other)
    with pytest.raises(HostError, match=r'sevenn\.scripts\.deploy writes models'):
        deploy(checkpoint, str(tmp_path / 'a.pt'), 'pbe')
    assert list(tmp_path.iterdir()) == []


# ---- the fast form


def fast_form(
    path: str, folded: Folded
) -> tuple[torch.jit.ScriptModule | None, list[str]]:
    """The fast form in a file, or None, and what `deploy` said."""
    assert read_deployed(path)['kind'] == 'serial'
    extra = {FAST_FILE: ''}
    torch.jit.load(path, _extra_files=extra)
    content = extra[FAST_FILE]
    found = torch.jit.load(io.BytesIO(content)) if content else None
    return found, folded.warnings


@pytest.fixture
def fast(checkpoint: str, tmp_path: Path):
    """Deploy, and return what `fast_form` does."""

    def make(**options: bool) -> tuple[torch.jit.ScriptModule | None, list[str]]:
        target = str(tmp_path / 'a.pt')
        (path,), folded = deploy(checkpoint, target, 'pbe', **options)
        return fast_form(path, folded)

    return make


@pytest.mark.skipif(library.path() is None, reason='the kernel was not compiled')
@pytest.mark.parametrize('table', [True, False])
def test_it_calls_the_operator_and_reads_a_table(
    fast, of_pbe: tuple[str, Folded], table: bool
) -> None:
    module, said = fast_form(*of_pbe) if table else fast(table=False)
    graph = str(module.inlined_graph)
    assert graph.count('sevennet_mf::deployed_convolution') == 2
    assert 'aten::scatter_reduce' not in graph.partition('atomic_energy')[0]
    assert said == []


def test_without_the_kernel_there_is_none_and_it_is_said(
    fast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(library.SWITCH, 'off')
    module, said = fast()
    assert module is None
    assert said == [
        'LAMMPS will run this file with e3nn, which is slower: it is turned '
        'off (--e3nn or '
        'SEVENNET_MF_FUSED).'
    ]


@pytest.mark.skipif(library.path() is None, reason='the kernel was not compiled')
def test_radial_weights_that_fit_no_table_stay_a_network(
    fast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabulated, 'TOLERANCE', 0.0)
    module, said = fast()
    assert module is not None
    assert len(said) == 1
    assert '1500 polynomials do not reproduce the radial weights to' in said[0]


@pytest.mark.skipif(library.path() is None, reason='the kernel was not compiled')
def test_a_wrong_table_is_refused(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = tabulated.table_of

    def wrong(layer: object) -> tuple[torch.Tensor, float]:
        table, step = right(layer)
        return table * 1.01, step

    monkeypatch.setattr(tabulated, 'table_of', wrong)
    with pytest.raises(UserError, match=r'fast form \(table\) .* differs'):
        deploy(checkpoint, str(tmp_path / 'a.pt'), 'pbe')
    assert list(tmp_path.iterdir()) == []


# ---- what is no deployed model


def test_a_mix_of_two_models_is_refused(checkpoint: str, tmp_path: Path) -> None:
    first, second = tmp_path / 'a', tmp_path / 'b'
    for folder, fidelity in ((first, 'pbe'), (second, 'r2scan')):
        deploy(checkpoint, str(folder), fidelity, parallel=True)
    last = first / 'deployed_parallel_1.pt'
    (second / last.name).replace(last)
    with pytest.raises(UserError, match='are not the 2 segments of one model'):
        read_deployed(str(first))
    last.unlink()
    with pytest.raises(UserError, match='are not the 2 segments of one model'):
        read_deployed(str(first))


def test_anything_else_is_refused(checkpoint: str, tmp_path: Path) -> None:
    text = tmp_path / 'text.pt'
    text.write_text('no model')
    for path in (str(text), checkpoint):
        with pytest.raises(UserError, match='is not a deployed SevenNet model'):
            read_deployed(path)
    with pytest.raises(UserError, match='no such file'):
        read_deployed(str(tmp_path / 'nothing.pt'))
    with pytest.raises(UserError, match=r'contains no deployed_parallel_0\.pt'):
        read_deployed(str(tmp_path))
