"""The loss of docs/design.md, 'The loss', against sums done by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from helpers import ENCODINGS, randomise, trained
from train_helpers import PBE, R2SCAN, batch_of, entry, fit_of, gradients, yaml_of

from sevennet_mf import keys
from sevennet_mf.config.blocks import TrainFidelity
from sevennet_mf.model.build import fidelity_layers, theta_of
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.loop.loss import (
    PRESENT,
    FidelityLoss,
    ThetaPenalty,
    fidelity_weights,
    losses_from,
)

ENERGY_ONLY = entry('pbe_train', 'pbe', '6:8', force_key=None, stress_key=None)
NAMES = ['pbe', 'r2scan']
LABELS = ('energy', 'force', 'stress')
# 0-5 pbe with everything; 6, 7 pbe with energies; 8-11 r2scan without stress
N = 12
MIXED = [0, 7, 9, 3, 6, 11]
KBAR = 1602.1766208


@pytest.fixture(scope='module')
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    sections = yaml_of(train=[PBE, ENERGY_ONLY, R2SCAN], valid=[], loss='mse')
    fit = fit_of(sections, tmp_path_factory.mktemp('loss'))
    randomise(fit.trainer.module)
    return fit


def run(fit: Fit, numbers: list[int]) -> Any:
    """What the model makes of a batch of those structures."""
    return fit.trainer.module(batch_of(fit.sets['trainset'].dataset, numbers))


def losses(fit: Fit, fidelity: dict, batch_size: int, **config: Any) -> dict:
    """{label: (term, lambda)} of a run with other settings on the same data."""
    host = {**fit.settled.inputs.host, **config, KEY.BATCH_SIZE: batch_size}
    asked = replace(
        fit.settled.inputs,
        train=TrainFidelity(**{'regularization': 0.0, **fidelity}),
        sections=(host, {}, {}),
    )
    rho = {
        'energy': np.ones(2),
        'force': np.array([6 / 8, 1.0]),
        'stress': np.array([6 / 8, 0.0]),
    }
    found = losses_from(asked, NAMES, np.array([8, 4]) / N, rho)
    return {term.label: (term, factor) for term, factor in found}


def squared(x: np.ndarray) -> np.ndarray:
    return x**2


def huber(x: np.ndarray) -> np.ndarray:
    """Huber's loss with delta 0.5."""
    small = np.abs(x) <= 0.5
    return np.where(small, x**2 / 2, 0.5 * (np.abs(x) - 0.25))


def by_hand(output: Any, label: str, criterion: Any = squared) -> np.ndarray:
    """(n_graphs,) mean of the criterion over components, NaN without a label."""
    values = []
    for i, n in enumerate(output[KEY.NUM_ATOMS].tolist()):
        atoms = (output[KEY.BATCH] == i).numpy()
        if label == 'energy':
            d = (output[KEY.PRED_TOTAL_ENERGY] - output[KEY.ENERGY])[i : i + 1] / n
        elif label == 'force':
            d = (output[KEY.PRED_FORCE] - output[KEY.FORCE])[atoms]
        else:
            d = (output[KEY.PRED_STRESS] - output[KEY.STRESS])[i] * KBAR
        values.append(criterion(d.detach().double().numpy()).mean())
    return np.array(values)


WEIGHTS = {
    'none': ({}, np.ones((3, 2))),
    'numbers': ({'r2scan': 7.0}, np.array([[1, 7], [1, 7], [1, 7]])),
    'components': (
        {'pbe': 2.0, 'r2scan': {'energy': 7.0, 'force': 3.0, 'stress': 1.0}},
        np.array([[2, 7], [2, 3], [2, 1]]),
    ),
    # p = (2/3, 1/3) and two fidelities
    'balanced': ('balanced', np.array([[0.75, 1.5]] * 3)),
}


@pytest.mark.parametrize('which', list(WEIGHTS))
@pytest.mark.parametrize('name', ['mse', 'huber'])
def test_closed_formula(fit: Fit, which: str, name: str) -> None:
    given, w = WEIGHTS[which]
    param = {'delta': 0.5} if name == 'huber' else {}
    terms = losses(
        fit, {'loss_weight': given}, 5, **{KEY.LOSS: name, KEY.LOSS_PARAM: param}
    )
    output = run(fit, MIXED)
    f = output[keys.FIDELITY_INDEX].numpy()
    p = np.array([8, 4]) / N
    rho = {'energy': [1, 1], 'force': [6 / 8, 1], 'stress': [6 / 8, 0]}
    for k, label in enumerate(LABELS):
        values = by_hand(output, label, squared if name == 'mse' else huber)
        wanted = np.nansum(w[k][f] * values) / (5 * (p * w[k] * rho[label]).sum())
        result = terms[label][0].get_loss(output)
        np.testing.assert_allclose(result.item(), wanted, rtol=2e-5)


def test_what_has_a_label(fit: Fit) -> None:
    output = run(fit, MIXED)
    known = {label: ~np.isnan(by_hand(output, label)) for label in LABELS}
    assert known['energy'].all()
    assert known['force'].tolist() == [True, False, True, True, False, True]
    assert known['stress'].tolist() == [True, False, False, True, False, False]


def test_lambdas_are_the_hosts(fit: Fit) -> None:
    terms = losses(fit, {}, 4)
    assert [terms[k][1] for k in LABELS] == [1.0, 0.1, 1e-6]
    assert [terms[k][0].name for k in LABELS] == ['Energy', 'Force', 'Stress']
    assert 'stress' not in losses(fit, {}, 4, **{KEY.IS_TRAIN_STRESS: False})


def test_padding_weighs_nothing(fit: Fit) -> None:
    terms = losses(fit, {'loss_weight': {'r2scan': 7.0}}, 4)
    plain, padded = run(fit, [0, 9]), run(fit, [0, 9, -1 - 3, -1 - 10])
    for term, _ in terms.values():
        torch.testing.assert_close(term.get_loss(padded), term.get_loss(plain))


@pytest.mark.parametrize('given', ['balanced', {'r2scan': 7.0}])
def test_a_batch_of_one_fidelity_keeps_its_weight(fit: Fit, given: Any) -> None:
    """Nothing is renormalised: the parts of a batch add up to the whole."""
    for term, _ in losses(fit, {'loss_weight': given}, 4).values():
        whole = term.get_loss(run(fit, [0, 1, 8, 9])).item()
        pbe, r2scan = (term.get_loss(run(fit, n)).item() for n in ([0, 1], [8, 9]))
        np.testing.assert_allclose(pbe + r2scan, whole, rtol=1e-5)
    seven = losses(fit, {'loss_weight': {'r2scan': 7.0}}, 4)['energy'][0]
    one = losses(fit, {}, 4)['energy'][0]
    alone = run(fit, [8, 9])
    # 7 / (2/3 + 7/3) against 1 / 1
    np.testing.assert_allclose(
        seven.get_loss(alone).item(), 7 / 3 * one.get_loss(alone).item(), rtol=1e-5
    )


@pytest.mark.parametrize('halves', [([0, 7], [9, 3]), ([0, 7], [9, 10])])
def test_half_batches_average_to_the_joint_one(fit: Fit, halves: Any) -> None:
    given = {'loss_weight': {'pbe': 0.5, 'r2scan': 7.0}}
    half, joint = losses(fit, given, 2), losses(fit, given, 4)
    whole = run(fit, [n for some in halves for n in some])
    parts = [run(fit, some) for some in halves]
    for label in LABELS:
        mean = np.mean([half[label][0].get_loss(p).item() for p in parts])
        wanted = joint[label][0].get_loss(whole).item()
        np.testing.assert_allclose(mean, wanted, rtol=1e-5)


def test_an_epoch_averages_to_the_weighted_mean(fit: Fit) -> None:
    """Balanced: each fidelity's mean counts the same, whatever its size."""
    term = losses(fit, {'loss_weight': 'balanced'}, 4)['energy'][0]
    total = np.mean([
        term.get_loss(run(fit, list(range(k, k + 4)))).item() for k in (0, 4, 8)
    ])
    values = by_hand(run(fit, list(range(N))), 'energy')
    wanted = (values[:8].mean() + values[8:].mean()) / 2
    np.testing.assert_allclose(total, wanted, rtol=1e-5)


def test_balanced_leaves_out_what_has_no_data() -> None:
    drawn = np.array([0.8, 0.2, 0.0])
    weights = fidelity_weights('balanced', ['a', 'b', 'c'], drawn)
    np.testing.assert_allclose(weights['force'], [0.625, 2.5, 0.0])


@pytest.mark.parametrize('numbers', [MIXED, [6, 7], [6, 8]])
def test_missing_labels_leave_gradients_finite(fit: Fit, numbers: list[int]) -> None:
    module = fit.trainer.module
    module.zero_grad()
    output = run(fit, numbers)
    total = sum(t.get_loss(output) * w for t, w in losses(fit, {}, 4).values())
    total.backward()
    found = gradients(module)
    assert found
    assert all(np.isfinite(g).all() for g in found.values())
    if numbers == [6, 7]:  # energies only: forces must count for nothing
        module.zero_grad()
        output = run(fit, numbers)
        losses(fit, {}, 4)['energy'][0].get_loss(output).backward()
        for name, gradient in gradients(module).items():
            np.testing.assert_allclose(found[name], gradient, rtol=1e-5, atol=1e-9)


def test_a_label_nothing_carries_has_no_term(fit: Fit) -> None:
    rho = {'energy': np.ones(2), 'force': np.zeros(2), 'stress': np.zeros(2)}
    found = losses_from(fit.settled.inputs, NAMES, np.array([0.5, 0.5]), rho)
    assert [repr(term) for term, _ in found] == ['Energy', 'ThetaPenalty']


# -------------------------------------------------------------------- the penalty


@torch.no_grad()
def effective_square(layer: Any, fidelity: int) -> float:
    """|theta_T|^2 of a layer from what it does to features, copy by copy."""
    own, common = layer.fold(fidelity).linear, layer.fold(None).linear
    n = layer.irreps_in.dim
    zero = torch.zeros(1, n)
    bias = own(zero) - common(zero)
    own_map = own(torch.eye(n)) - own(zero)
    common_map = common(torch.eye(n)) - common(zero)
    total = float(bias.square().sum())
    if layer.encoding == 'gain':  # by how much each copy is stretched
        factor = (own_map * common_map).sum(0) / common_map.square().sum(0) - 1
        for part, (mul, ir) in zip(
            layer.irreps_out.slices(), layer.irreps_out, strict=True
        ):
            copies = factor[part].reshape(mul, ir.dim)[:, 0]
            total += float(copies.nan_to_num().square().sum())
    elif layer.encoding == 'lora':
        square = (own_map - common_map).square().sum(1)
        for part, (_, ir) in zip(
            layer.irreps_in.slices(), layer.irreps_in, strict=True
        ):
            total += float(square[part].sum()) / ir.dim
    return total


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_penalty_is_on_effective_weights_of_who_is_there(encoding: str) -> None:
    model, _ = trained(encoding)
    present = {PRESENT: torch.tensor([False, True])}
    penalty = ThetaPenalty().get_loss(present, model)
    wanted = sum(effective_square(layer, 1) for layer in fidelity_layers(model))
    assert wanted > 0
    np.testing.assert_allclose(penalty.item(), wanted, rtol=1e-4)
    penalty.backward()
    owned = {id(p) for p in theta_of(model, 1)}
    for parameter in model.parameters():
        moved = parameter.grad is not None and bool(parameter.grad.any())
        assert moved <= (id(parameter) in owned)  # weights of all are free of it


def test_penalty_adds_up_over_fidelities() -> None:
    model, _ = trained('bias')
    both, *each = (
        ThetaPenalty().get_loss({PRESENT: torch.tensor(mask)}, model).item()
        for mask in ([True, True], [True, False], [False, True])
    )
    np.testing.assert_allclose(both, sum(each), rtol=1e-5)


def test_penalty_only_where_it_is_wanted(fit: Fit) -> None:
    found = losses(fit, {'regularization': 0.0}, 4)
    assert all(isinstance(term, FidelityLoss) for term, _ in found.values())
    term, factor = fit.trainer.loss_functions[-1]
    assert isinstance(term, ThetaPenalty)
    assert factor == 1e-6  # the default


def test_one_fidelity_has_no_penalty(tmp_path: Path) -> None:
    alone = fit_of(yaml_of(train=[PBE], valid=[]), tmp_path)
    assert [repr(term) for term, _ in alone.trainer.loss_functions] == [
        'Energy',
        'Force',
        'Stress',
    ]
