"""Elastic weight consolidation holds what old fidelities depend on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import structures
from pretrained_helpers import extending, labelled, pretrained, trained_in

from sevennet_mf.config import inputs
from sevennet_mf.data import extxyz
from sevennet_mf.distributed import Process
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import load_model
from sevennet_mf.train.continuing import ewc
from sevennet_mf.train.continuing.extension import make_start
from sevennet_mf.train.continuing.fisher import fisher_information
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop.trainer import FidelityTrainer
from sevennet_mf.train.prepare import prepare_data, prepare_fit


def files(folder: Path, names: tuple[str, ...] = ()) -> tuple[Path, str, Path]:
    """A checkpoint, labels of another level of theory, its Fisher information."""
    path = pretrained(folder, names)
    offsets = {'Ga': 1.0, 'In': 0.5, 'N': -1.0}
    own = names[0] if names else None
    labels = labelled(folder / 'labels.extxyz', structures(4), path, own, offsets)
    fisher = folder / 'fisher.pt'
    found = fisher_information(load_model(str(path)), structures(2), own)
    torch.save(found, fisher)
    return path, labels, fisher


def sections(path: Path, labels: str, **block: Any) -> dict[str, Any]:
    known = {'known_as': 'pbe'} if 'known_as' not in block else {}
    block.pop('known_as', None)
    given = extending(path, labels, **known)
    given['train']['continue'].update(block)
    return given


def prepared(given: dict[str, Any], folder: Path) -> tuple[Start, FidelityTrainer]:
    from sevenn.model_build import build_E3_equivariant_model

    asked = inputs.read(given)
    start = make_start(asked)
    assert start is not None
    settled = prepare_data(asked, str(folder), Process(), start)
    model = build_E3_equivariant_model(settled.config)
    fit = prepare_fit(settled, model, str(folder), Process(), start)
    return start, fit.trainer


@pytest.mark.parametrize('encoding', ['bias', 'lora'])
@pytest.mark.parametrize('names', [(), ('pbe', 'scan')], ids=['plain', 'two'])
def test_the_penalty_is_that_of_the_checkpoints_own_weights(
    names: tuple[str, ...], encoding: str, tmp_path: Path
) -> None:
    """An extension scales weights; what it costs to move them stays the same.

    What it draws at random, as the first factor of `lora`, costs nothing.
    """
    path, labels, fisher = files(tmp_path, names)
    more = {'known_as': None} if names else {}
    given = sections(
        path, labels, fisher_information=str(fisher), ewc_lambda=3.0, **more
    )
    given['model'] = {'fidelity': {'encoding': encoding}}
    start, trainer = prepared(given, tmp_path)
    loss, factor = ewc.term(start, trainer)
    assert factor == 1.5
    trainer.load_weights(start.weights)
    assert float(loss.get_loss({}, trainer.module).detach()) == 0.0
    own = dict(start.loaded.model.named_parameters())
    before = torch.load(fisher, weights_only=True)
    torch.manual_seed(0)
    moves = {name: 1e-2 * torch.randn_like(own[name]) for name in before}
    wanted = sum(float((before[n] * moves[n] ** 2).sum()) for n in before)
    with torch.no_grad():
        for name, move in moves.items():
            own[name] += move
    trainer.load_weights(start.state())  # as the extension has them
    found = float(loss.get_loss({}, trainer.module).detach())
    assert found == pytest.approx(wanted, rel=1e-4)


def test_a_fidelity_that_is_there_is_trained_further(tmp_path: Path) -> None:
    """Weights are as they were, and so is what it costs to move them."""
    path, labels, fisher = files(tmp_path, ('pbe', 'scan'))
    given = extending(path, labels, fidelity='scan')
    given['data']['fidelity'] = {'order': ['pbe', 'scan']}
    given['train']['continue'].update(fisher_information=str(fisher), ewc_lambda=1)
    start, trainer = prepared(given, tmp_path)
    loss, _ = ewc.term(start, trainer)
    assert isinstance(loss, ewc.Consolidation)
    before = torch.load(fisher, weights_only=True)
    for name, value in loss.importance.items():
        assert torch.equal(value, before[name]), name
    free = {name for name in before if name.endswith('bias.1')}  # scan's own
    assert set(before) - set(loss.importance) == free
    assert float(loss.importance['onehot_to_feature_x.linear.weight'].sum()) > 0


def test_it_holds_the_old_fidelity(tmp_path: Path) -> None:
    path, labels, fisher = files(tmp_path)
    moved = {}
    for name, factor in (('free', None), ('held', 1e6)):
        given = sections(path, labels)
        if factor:
            given['train']['continue'].update(
                fisher_information=str(fisher), ewc_lambda=factor
            )
        given['train'].update(
            epoch=12, optim_param={'lr': 3e-3}, scheduler_param={'gamma': 0.6}
        )
        folder = trained_in(tmp_path / name, given)
        with open(folder / 'lc.csv', newline='', encoding='utf-8') as stream:
            last = [*csv.DictReader(stream)][-1]
        moved[name] = float(last['drift_pbe_Energy_MAE'])
    assert moved['held'] < 0.5 * moved['free']


def test_what_the_trained_fidelity_owns_is_free(tmp_path: Path) -> None:
    path, labels, fisher = files(tmp_path)
    given = sections(path, labels, fisher_information=str(fisher), ewc_lambda=1.0)
    start, trainer = prepared(given, tmp_path)
    loss, _ = ewc.term(start, trainer)
    trainer.load_weights(start.weights)
    with torch.no_grad():
        trainer.module._modules['0_self_interaction_1'].bias[1] += 1.0
    assert float(loss.get_loss({}, trainer.module).detach()) == 0.0


def test_errors_name_the_key_and_the_remedy(tmp_path: Path) -> None:
    path, labels, fisher = files(tmp_path)
    other = tmp_path / 'other.pt'
    torch.save({'strange.weight': torch.zeros(3)}, other)
    broken = tmp_path / 'broken.pt'
    broken.write_bytes(b'nothing')
    extxyz.write(tmp_path / 'x.extxyz', structures(1))
    cases = [
        ({'ewc_lambda': 1.0}, r'fisher_information is missing.*sevennet-mf fisher'),
        (
            {'fisher_information': str(fisher)},
            r'train\.continue\.ewc_lambda must be greater than 0, got None',
        ),
        (
            {'fisher_information': str(fisher), 'ewc_lambda': -1},
            r'ewc_lambda must be greater than 0, got -1',
        ),
        (
            {'fisher_information': 'nowhere.pt', 'ewc_lambda': 1.0},
            r'fisher_information: no such file: nowhere\.pt',
        ),
        (
            {'fisher_information': str(broken), 'ewc_lambda': 1.0},
            r'broken\.pt is not a file of tensors',
        ),
        (
            {'fisher_information': str(other), 'ewc_lambda': 1.0},
            r'other\.pt belongs to another model than .* strange\.weight \(3,\)',
        ),
    ]
    for block, words in cases:
        with pytest.raises(UserError, match=words):
            trained_in(tmp_path / 'run', sections(path, labels, **block))
    given = sections(path, labels, fisher_information=str(fisher), ewc_lambda=1.0)
    given['train']['fidelity']['update'] = 'fidelity_only'
    with pytest.raises(UserError, match=r'fidelity_only none of them.*Remove one'):
        trained_in(tmp_path / 'run', given)
