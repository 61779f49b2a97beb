"""`export` writes what agrees with the original, or nothing."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import pytest
import sevenn._keys as KEY
import torch
from helpers import (
    NAMES,
    assert_close,
    build,
    evaluate,
    host_config,
    model_config,
    randomise,
    save_checkpoint,
    structures,
    trained,
)

from sevennet_mf import keys
from sevennet_mf.deploy import export, folded
from sevennet_mf.errors import UserError
from sevennet_mf.kernels import library
from sevennet_mf.model import fold
from sevennet_mf.model.load import load_model

REFERENCES = {
    'pbe': {'In': {'energy': -3.0, 'std': 0.1, 'determined': True}},
    'r2scan': {'In': {'energy': -4.0, 'std': 4.0, 'determined': False}},
}
PROVENANCE = {
    'fidelities': list(NAMES),
    'order': list(NAMES),
    'base': 'pbe',
    'target': 'r2scan',
    'about': {'r2scan': {'functional': 'r2SCAN'}},
    'files': {'trainset: pbe.extxyz': '1' * 64},
    'reference_energies': REFERENCES,
    'versions': {'sevennet_mf': '0.1.0', 'torch': '1.0'},
}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two fidelities with gains, as training writes them."""
    model, config = trained('gain')
    config[keys.PROVENANCE] = PROVENANCE
    path = tmp_path_factory.mktemp('trained') / 'checkpoint_best.pth'
    return str(save_checkpoint(path, model, config))


@pytest.fixture(scope='module')
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of SevenNet without fidelities."""
    config = model_config(names=('pbe',))
    path = tmp_path_factory.mktemp('plain') / 'plain.pth'
    return str(save_checkpoint(path, build(config), host_config(config)))


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_the_exported_file_is_the_fidelity(checkpoint: str, tmp_path: Path) -> None:
    path, made = export.export(checkpoint, str(tmp_path / 'new' / 'r.pth'), 'r2scan')
    assert path == str(tmp_path / 'new' / 'r.pth')
    original, exported = load_model(checkpoint), load_model(path)
    assert exported.fidelities == ('r2scan',)
    assert exported.model.modal_map is None
    atoms = structures(3)
    wanted = evaluate(original.model, atoms, ['r2scan'] * 3)
    assert_close(evaluate(exported.model, atoms, [None] * 3), wanted)
    assert made.deviation.holds
    assert 0 < made.deviation.forces < 1e-4
    assert made.elements == ('N', 'Ga', 'In')


def test_the_file_holds_builtins_and_tensors_only(
    checkpoint: str, tmp_path: Path
) -> None:
    path, _ = export.export(checkpoint, str(tmp_path / 'r.pth'), 'r2scan')
    content = torch.load(path, weights_only=True)  # anything else is an error
    assert content['optimizer_state_dict'] == content['scheduler_state_dict'] == {}
    before = torch.load(checkpoint, weights_only=False)
    assert content['epoch'] == before['epoch']
    assert content['hash'] != before['hash']
    numbers = sum(v.numel() for v in content['model_state_dict'].values())
    assert Path(path).stat().st_size < 4 * numbers + 60_000  # each weight once


def test_provenance_is_kept(checkpoint: str, tmp_path: Path) -> None:
    path, _ = export.export(checkpoint, str(tmp_path / 'r.pth'), 'r2scan')
    known = load_model(path).provenance
    assert known['fidelities'] == ['r2scan']
    for key in ('order', 'target', 'about', 'files', 'reference_energies'):
        assert known[key] == PROVENANCE[key]
    assert known['trained_with'] == PROVENANCE['versions']
    assert known['versions']['torch'] == torch.__version__
    origin = known['folded']
    assert origin['sha256'] == sha256(checkpoint)
    assert origin['file'] == 'checkpoint_best.pth'
    assert origin['fidelity'] == origin['references'] == 'r2scan'
    assert origin['encoding'] == 'gain'
    assert origin['fidelities'] == list(NAMES)


def test_a_folded_file_folds_again(checkpoint: str, tmp_path: Path) -> None:
    first, _ = export.export(checkpoint, str(tmp_path / 'a.pth'), 'r2scan')
    second, made = export.export(first, str(tmp_path / 'b.pth'))
    assert made.choice.name == 'r2scan'
    a, b = (torch.load(p, weights_only=True) for p in (first, second))
    for name, value in a['model_state_dict'].items():
        assert torch.equal(b['model_state_dict'][name], value), name
    origin = b['config'][keys.PROVENANCE]['folded']
    assert origin['sha256'] == sha256(first)
    assert origin['earlier']['sha256'] == sha256(checkpoint)


def test_common_takes_the_named_references(checkpoint: str, tmp_path: Path) -> None:
    answers = []
    for references in NAMES:
        path, made = export.export(
            checkpoint, str(tmp_path / f'{references}.pth'), 'common', references
        )
        assert made.choice.references == references
        exported = load_model(path)
        assert exported.fidelities == ('common',)
        answers.append(evaluate(exported.model, structures(1), [None]))
    n = len(structures(1)[0])
    apart = float(answers[0]['energy'] - answers[1]['energy'])
    assert apart == pytest.approx(n, abs=1e-3)  # shifts of -3 and -4 eV
    assert torch.equal(answers[0]['forces'], answers[1]['forces'])


def test_a_plain_checkpoint_needs_no_name(
    plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(library.SWITCH, 'off')  # one arithmetic on both sides
    path, made = export.export(plain)
    assert path == 'plain_plain.pth'
    assert (made.deviation.energy, made.deviation.forces) == (0.0, 0.0)


def test_what_the_command_says(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    args = argparse.Namespace(
        checkpoint=checkpoint,
        fidelity='r2scan',
        references=None,
        output=None,
        accelerated=False,
    )
    said = export.run(args)
    assert 'checkpoint_best_r2scan.pth: a plain SevenNet checkpoint' in said
    assert 'of 3 elements: differs by at most ' in said
    assert 'Warning: r2scan: not determined for In; no label' in said
    assert Path('checkpoint_best_r2scan.pth').is_file()
    args.fidelity = 'pbe'
    assert 'Warning' not in export.run(args)
    assert capsys.readouterr().out == ''  # nothing of the host's


# ---- nothing is written


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ({}, r"fidelity is missing: the model has \['pbe', 'r2scan'\]"),
        ({'fidelity': 'R2scan'}, "Did you mean 'r2scan'"),
        ({'fidelity': 'common'}, 'give --references'),
    ],
)
def test_a_wrong_name(
    given: dict[str, str], said: str, checkpoint: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        export.export(checkpoint, str(tmp_path / 'x.pth'), **given)
    assert list(tmp_path.iterdir()) == []


def test_the_checkpoint_itself_stays(checkpoint: str, tmp_path: Path) -> None:
    before = sha256(checkpoint)
    link = tmp_path / 'link.pth'
    link.symlink_to(checkpoint)
    for output in (checkpoint, str(link)):
        with pytest.raises(UserError, match='is the checkpoint itself'):
            export.export(checkpoint, output, 'pbe')
    with pytest.raises(UserError, match='is a folder; give the name of a file'):
        export.export(checkpoint, str(tmp_path), 'pbe')
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be made'):
        export.export(checkpoint, str(tmp_path / 'file' / 'sub' / 'x.pth'), 'pbe')
    assert sha256(checkpoint) == before


@pytest.mark.parametrize('part', ['shift', 'weight', 'nan'])
def test_a_wrong_fold_is_refused(
    part: str, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it ever happened: energies alone, or energies and forces, or no number."""
    original = fold.fold

    def wrong(*args: Any) -> Any:
        config, state = original(*args)
        if part == 'shift':
            state['rescale_atomic_energy.shift'] += 5e-5
        elif part == 'weight':
            state['0_self_interaction_1.linear.weight'] *= 1.01
        else:
            state['reduce_hidden_to_energy.linear.weight'] *= torch.nan
        return config, state

    monkeypatch.setattr(folded, 'fold', wrong)
    old = tmp_path / 'old.pth'
    old.write_text('before')
    with pytest.raises(UserError, match='differs from the original by') as error:
        export.export(checkpoint, str(old), 'pbe')
    said = {'shift': '5.0e-05 eV/atom', 'weight': ' eV/Å', 'nan': 'nan eV/atom'}
    assert said[part] in str(error.value)
    assert old.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [old]


def test_a_failed_write_leaves_the_old_file(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / 'old.pth'
    old.write_text('before')

    def full(content: Any, target: Any) -> None:
        if not isinstance(target, str):  # the file, not the one that is checked
            target.write(b'half of it')
            raise OSError(28, 'No space left on device')
        torch_save(content, target)

    torch_save = torch.save
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(UserError, match='cannot be written: No space left'):
        export.export(checkpoint, str(old), 'pbe')
    assert old.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [old]


# ---- for accelerators


@pytest.mark.parametrize('sites', [None, ['output', 'node_embedding']])
def test_accelerated_has_no_bias_but_rows(
    sites: list[str] | None, tmp_path: Path
) -> None:
    """Also a bias of the readout, which becomes part of the reference energies."""
    fidelity = {'sites': sites} if sites else {}
    config = model_config('lora', NAMES, fidelity, use_bias_in_linear=True)
    model = build(config)
    randomise(model)
    with torch.no_grad():
        model.get_submodule('reduce_hidden_to_energy').linear.bias.fill_(0.3)
    source = save_checkpoint(tmp_path / 'c.pth', model, config)
    path, made = export.export(
        str(source), str(tmp_path / 'a.pth'), 'r2scan', accelerated=True
    )
    assert made.modalities == ('r2scan', 'same_as_r2scan')
    content = torch.load(path, weights_only=True)
    state = content['model_state_dict']
    biases = [state[name] for name in state if name.endswith('.linear.bias')]
    assert biases
    assert not any(bias.numel() for bias in biases)
    assert content['config'][KEY.USE_BIAS_IN_LINEAR] is False
    exported = load_model(path)
    assert exported.fidelities == made.modalities
    atoms = structures(2)
    wanted = evaluate(load_model(str(source)).model, atoms, ['r2scan'] * 2)
    for row in made.modalities:
        assert_close(evaluate(exported.model, atoms, [row] * 2), wanted)


def test_accelerated_without_any_bias_is_plain(plain: str, tmp_path: Path) -> None:
    path, made = export.export(plain, str(tmp_path / 'a.pth'), accelerated=True)
    assert made.modalities == ()
    content = torch.load(path, weights_only=True)
    assert content['config'][KEY.USE_MODALITY] is False
    assert content['config'][KEY.USE_BIAS_IN_LINEAR] is False
    atoms = structures(1)
    wanted = evaluate(load_model(plain).model, atoms, [None])
    assert_close(evaluate(load_model(path).model, atoms, [None]), wanted)
