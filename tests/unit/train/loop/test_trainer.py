"""Single optimiser steps, in one process and in two."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import ase.io
import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from helpers import ENCODINGS, randomise
from sevenn.train.loss import LossDefinition
from train_helpers import (
    MOLECULES,
    PBE,
    R2SCAN,
    batch_of,
    entry,
    fit_of,
    gradients,
    same,
    weights,
    yaml_of,
)

from sevennet_mf import keys
from sevennet_mf.errors import UserError
from sevennet_mf.model.build import fidelity_layers, theta_of
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.loop.loss import LABELS
from sevennet_mf.train.loop.trainer import SHIFT, BadLoss

MOLECULAR = [
    entry('pbe_train', 'pbe', ':4', MOLECULES),
    entry('ccsdt_train', 'ccsdt', ':4', MOLECULES),
]


class Nan(LossDefinition):
    """A loss that is not finite."""

    def get_loss(self, batch_data: Any, model: Any = None) -> torch.Tensor:
        return batch_data[KEY.PRED_TOTAL_ENERGY].sum() * float('nan')


def step(fit: Fit, numbers: list[int], **kwargs: Any) -> Any:
    batch = batch_of(fit.sets['trainset'].dataset, numbers)
    return fit.trainer.step(batch, **kwargs)


# -------------------------------------------------------------- reference energies


@pytest.mark.parametrize('learn', [False, True])
def test_references_are_out_while_training_and_back_in_files(
    tmp_path: Path, learn: bool
) -> None:
    fit = fit_of(yaml_of(model={'train_shift_scale': learn}), tmp_path)
    config_shift = fit.config[KEY.SHIFT]
    elements = sorted(fit.config[KEY.TYPE_MAP], key=fit.config[KEY.TYPE_MAP].get)
    wanted = torch.tensor(
        [[config_shift[name][z] for z in elements] for name in ('pbe', 'r2scan')]
    )
    assert not fit.trainer.shift.any()
    before = fit.trainer.get_checkpoint_dict()['model_state_dict']
    assert torch.equal(before[SHIFT], wanted)  # to the last bit
    assert not fit.trainer.shift.any()  # asking for it changes nothing
    for _ in range(2):
        step(fit, [0, 1, 6, 7])
    moved = fit.trainer.shift.detach()
    after = fit.trainer.get_checkpoint_dict()['model_state_dict'][SHIFT]
    assert bool(moved.any()) is learn
    exact = (wanted.double() + moved.double()).float()
    assert torch.equal(after, exact)
    assert torch.equal(after, wanted) is not learn


def test_checkpoints_predict_total_energies(tmp_path: Path) -> None:
    """Residuals plus the references that were taken out of the labels."""
    fit = fit_of(yaml_of(), tmp_path)
    dataset = fit.sets['trainset'].dataset
    numbers = [0, 6, 1, 9]
    trained = fit.trainer.module
    whole = copy.deepcopy(trained)
    whole.load_state_dict(fit.trainer.get_checkpoint_dict()['model_state_dict'])
    residual, total = (
        m(batch_of(dataset, numbers))[KEY.PRED_TOTAL_ENERGY].detach().double()
        for m in (trained, whole)
    )
    references = dataset.energy[numbers] - dataset.residual[numbers]
    np.testing.assert_allclose((total - residual).numpy(), references, rtol=1e-6)
    assert np.abs(references).min() > 10  # eV: there is something to put back


def test_all_electron_energies_keep_their_digits(tmp_path: Path) -> None:
    """-3000 eV in float32 is known to 2e-4 eV; what is trained on, to 1e-6."""
    sections = yaml_of(train=MOLECULAR, valid=[])
    fit = fit_of(sections, tmp_path)
    dataset = fit.sets['trainset'].dataset
    batch = batch_of(dataset, list(range(8)))
    atoms = [
        a
        for name in ('pbe_train', 'ccsdt_train')
        for a in ase.io.read(MOLECULES / f'{name}.extxyz', ':4')
    ]
    shift = fit.config[KEY.SHIFT]
    exact = [
        a.get_potential_energy()
        - sum(shift['pbe' if i < 4 else 'ccsdt'][z] for z in a.numbers)
        for i, a in enumerate(atoms)
    ]
    assert max(abs(a.get_potential_energy()) for a in atoms) > 3000
    assert max(map(abs, exact)) < 50
    labels = batch[KEY.ENERGY].double().numpy()
    np.testing.assert_allclose(labels, exact, rtol=1e-6, atol=1e-6)
    # and the model adds nothing of that size back before the loss
    energies = fit.trainer.module(batch)[KEY.PRED_TOTAL_ENERGY]
    assert energies.detach().abs().max() < 1000


# ------------------------------------------------------------------------ the step


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_adam_leaves_an_absent_fidelity_alone(tmp_path: Path, encoding: str) -> None:
    """Trap 22: with momentum built up Adam moves a weight of zero gradient."""
    sections = yaml_of(fidelity={'model': {'encoding': encoding}})
    fit = fit_of(sections, tmp_path)
    for _ in range(3):
        step(fit, [0, 1, 6, 7])
    own = [p.detach().clone() for p in theta_of(fit.trainer.module, 1)]
    others = [p.detach().clone() for p in theta_of(fit.trainer.module, 0)]
    state = fit.trainer.optimizer.state
    momentum = [state[p]['exp_avg'].clone() for p in theta_of(fit.trainer.module, 1)]
    assert any(bool(m.any()) for m in momentum)
    step(fit, [0, 1, 2, -1 - 6])  # r2scan only fills up
    for before, parameter in zip(own, theta_of(fit.trainer.module, 1), strict=True):
        assert torch.equal(before, parameter)
    moved = [
        not torch.equal(before, parameter)
        for before, parameter in zip(
            others, theta_of(fit.trainer.module, 0), strict=True
        )
    ]
    assert any(moved)
    step(fit, [0, 6])
    now = theta_of(fit.trainer.module, 1)
    assert not all(torch.equal(a, b) for a, b in zip(own, now, strict=True))


def test_adam_leaves_an_absent_fidelitys_shift_and_scale_alone(
    tmp_path: Path,
) -> None:
    """Trap 22 again: they are rows of one Parameter."""
    sections = yaml_of(
        model={'train_shift_scale': True},
        fidelity={'model': {'scale': 'per_fidelity'}},
        loss='mse',  # Huber's slopes of two errors of opposite sign cancel
    )
    fit = fit_of(sections, tmp_path)
    for _ in range(3):
        step(fit, [0, 1, 6, 7])
    rescale = fit.trainer.module._modules['rescale_atomic_energy']
    before = [p.detach().clone() for p in (rescale.shift, rescale.scale)]
    assert before[0][1].any()  # it has learnt, so that there is momentum
    step(fit, [0, 1])
    for old, now in zip(before, (rescale.shift, rescale.scale), strict=True):
        assert torch.equal(old[1], now[1])
        assert not torch.equal(old[0], now[0])


def test_a_gradient_that_is_not_finite_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = fit_of(yaml_of(), tmp_path)
    before = weights(fit)
    first = next(p for p in fit.trainer.module.parameters() if p.requires_grad)
    hook = first.register_hook(lambda grad: grad * float('nan'))
    with pytest.raises(BadLoss) as stopped:
        step(fit, [0, 6])
    hook.remove()
    assert stopped.value.structures == [0, 6]
    assert same(before, weights(fit))


def test_weight_decay_spares_an_absent_fidelity(tmp_path: Path) -> None:
    param = {'optimizer': 'adamw', 'optim_param': {'lr': 0.1, 'weight_decay': 1.0}}
    fit = fit_of(yaml_of(**param), tmp_path)
    randomise(fit.trainer.module)
    own = [p.detach().clone() for p in theta_of(fit.trainer.module, 1)]
    step(fit, [0, 1])
    after = theta_of(fit.trainer.module, 1)
    assert all(torch.equal(a, b) for a, b in zip(own, after, strict=True))


def test_a_step_lowers_the_loss(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(optim_param={'lr': 1e-3}), tmp_path)
    numbers = [0, 1, 6, 7]

    def total() -> float:
        output = fit.trainer.module(batch_of(fit.sets['trainset'].dataset, numbers))
        terms = fit.trainer.loss_functions[:-1]
        return sum(term.get_loss(output).item() * w for term, w in terms)

    before = total()
    for _ in range(5):
        step(fit, numbers)
    assert total() < before


def test_a_bad_loss_changes_nothing(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(), tmp_path)
    step(fit, [0, 1, 6, 7])
    before = weights(fit)
    momentum = copy.deepcopy(fit.trainer.optimizer.state_dict())
    terms = fit.trainer.loss_functions
    terms.append((Nan('Nan'), 1.0))
    with pytest.raises(BadLoss) as raised:
        step(fit, [2, 8, 3])
    assert raised.value.structures == [2, 8, 3]
    assert same(before, weights(fit))
    after = fit.trainer.optimizer.state_dict()
    for index, state in momentum['state'].items():
        now = after['state'][index]
        assert all(torch.equal(v, now[k]) for k, v in state.items())
    terms.pop()
    step(fit, [2, 8, 3])  # and the next batch is none the worse for it
    assert fit.trainer.weights_are_finite()


def test_a_request_to_stop_comes_back(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(), tmp_path)
    assert step(fit, [0, 6])[1] is False
    assert step(fit, [0, 6], stop=True)[1] is True


class OnDevice(torch.Tensor):
    """Numbers of a device: the processor waits for it when it wants to know them."""

    waits: ClassVar[list[str]] = []
    # what a tensor of CUDA has to be complete for
    asking = ('item', 'tolist', 'cpu', 'numpy', '__bool__', '__float__', '__int__')
    asking = (*asking, 'nonzero', 'masked_select', 'unique', 'argwhere', 'equal')

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        masked = func is torch.Tensor.__getitem__ and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in args[1:]
        )
        if masked or func.__name__ in cls.asking:
            cls.waits.append(func.__name__)
        result = super().__torch_function__(func, types, args, kwargs)
        return result.as_subclass(torch.Tensor) if func.__name__ == 'cpu' else result


def test_a_step_waits_for_the_device_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For what our code asks, beside what layers of the host ask in between."""
    sections = yaml_of(
        model={'train_shift_scale': True},
        fidelity={'train': {'regularization': 0.1}},
    )
    fit = fit_of(sections, tmp_path)
    trainer, norm = fit.trainer, torch.nn.utils.get_total_norm
    model = trainer.model

    def on_device(batch: Any) -> Any:
        output = model(batch)
        for name, value in output.to_dict().items():
            if isinstance(value, torch.Tensor):
                output[name] = value.as_subclass(OnDevice)
        return output

    trainer.model = on_device
    monkeypatch.setattr(
        torch.nn.utils, 'get_total_norm', lambda g: norm(g).as_subclass(OnDevice)
    )
    numbers, recorder = [0, 1, 6], fit.sets['trainset'].recorder
    assert recorder is not None
    batch = batch_of(fit.sets['trainset'].dataset, numbers)
    OnDevice.waits.clear()
    seen, _ = trainer.step(batch)
    recorder.update(seen)
    assert OnDevice.waits == ['cpu']
    assert seen[keys.STRUCTURE_INDEX].tolist() == numbers


def test_what_a_step_saw_is_what_the_model_says(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(), tmp_path)
    dataset, numbers = fit.sets['trainset'].dataset, [7, 0, 2]
    exact = fit.trainer.module(batch_of(dataset, numbers))
    seen, _ = step(fit, numbers)
    for _, _, ref_key, pred_key in LABELS:
        assert torch.equal(seen[pred_key], exact[pred_key].detach())
        assert not seen[pred_key].requires_grad
        assert torch.equal(seen[ref_key].isnan(), exact[ref_key].isnan())


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(), tmp_path)
    assert fit.trainer.weights_are_finite()
    with torch.no_grad():
        fidelity_layers(fit.trainer.module)[0].bias[1][0] = float('inf')
    assert not fit.trainer.weights_are_finite()


def test_load_weights_keeps_the_references(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(model={'train_shift_scale': True}), tmp_path)
    step(fit, [0, 6])
    content = fit.trainer.get_checkpoint_dict()['model_state_dict']
    shift = fit.trainer.shift.detach().clone()
    assert shift.any()
    fit.trainer.load_weights(content)
    assert torch.equal(fit.trainer.shift, shift)
    again = fit.trainer.get_checkpoint_dict()['model_state_dict']
    assert same(content, again)


@pytest.mark.parametrize(
    ('train', 'words'),
    [
        ({'scheduler': 'steplr', 'scheduler_param': {'steps': 1}}, 'param.*steps'),
        ({'optim_param': {'lr': -1}}, 'optim_param.*[Ii]nvalid learning rate'),
        ({'optim_param': {'rate': 1}}, 'optim_param.*rate'),
    ],
)
def test_arguments_that_torch_refuses(
    tmp_path: Path, train: dict, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        fit_of(yaml_of(**train), tmp_path)


@pytest.mark.parametrize('name', ['optimizer', 'scheduler'])
def test_names_that_torch_has_not(tmp_path: Path, name: str) -> None:
    fit = fit_of(yaml_of(), tmp_path)
    config = {**fit.config, name: 'adamm'}
    with pytest.raises(UserError, match=rf"train\.{name} must be one of .*'adamm'"):
        type(fit.trainer)(fit.trainer.module, [], config, fit.process, 2)


def test_the_hosts_default_scheduler_works(tmp_path: Path) -> None:
    """A checkpoint may have it: exponentiallr without the gamma that it needs."""
    fit = fit_of(yaml_of(), tmp_path)
    config = {**fit.config, 'scheduler': 'exponentiallr', 'scheduler_param': {}}
    trainer = type(fit.trainer)(fit.trainer.module, [], config, fit.process, 2)
    trainer.optimizer.step()
    trainer.scheduler_step(1.0)
    assert trainer.get_lr() == 0.01


# ----------------------------------------------------------------- several processes


@pytest.fixture(scope='module')
def alone(
    two_processes: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Gradients of one process with the joint batch, by encoding and case."""
    found: dict[str, dict] = {}
    for encoding in ENCODINGS:
        sections = two_processes.sections(
            encoding, optimizer='sgd', optim_param={'lr': 0.0}
        )
        sections['data']['batch_size'] *= 2
        fit = fit_of(sections, tmp_path_factory.mktemp('alone'))
        randomise(fit.trainer.module)
        found[encoding] = {}
        for case, (first, second) in two_processes.halves.items():
            step(fit, [*first, *second])
            found[encoding][case] = gradients(fit.trainer.module)
    return found


@pytest.mark.parametrize('case', ['mixed', 'one fidelity each', 'absent', 'padded'])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_two_processes_have_the_gradients_of_one(
    two_processes: SimpleNamespace, alone: dict, encoding: str, case: str
) -> None:
    joint = alone[encoding][case]
    size = max(np.abs(g).max() for g in joint.values())
    for result in two_processes.results:
        together = result['gradients'][encoding][case]
        # the same weights have a gradient: none of an absent fidelity has
        assert together.keys() == joint.keys()
        for name, gradient in joint.items():
            np.testing.assert_allclose(
                together[name], gradient, rtol=1e-5, atol=1e-6 * size, err_msg=name
            )
    owned = sum('bias.1' in name for name in joint)
    assert (owned == 0) is (case == 'absent')


def test_both_ranks_have_the_same_gradients(two_processes: SimpleNamespace) -> None:
    first, second = (result['gradients'] for result in two_processes.results)
    np.testing.assert_equal(first, second)


def test_both_ranks_stop_when_one_is_asked(two_processes: SimpleNamespace) -> None:
    assert [r['agreed']['stop'] for r in two_processes.results] == [True, True]


def test_a_bad_loss_on_one_rank_stops_both(two_processes: SimpleNamespace) -> None:
    first, second = (result['agreed'] for result in two_processes.results)
    assert (first['structures'], second['structures']) == ([], [4])
    assert first['unchanged']
    assert second['unchanged']
    for message in (first['message'], second['message']):
        assert 'pbe_train.extxyz:4' in message


def test_helpers_are_what_they_seem() -> None:
    """0-5 are pbe, 6-9 r2scan in every test here."""
    assert (PBE['index'], R2SCAN['index']) == (':6', ':4')
