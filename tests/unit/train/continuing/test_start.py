"""Going on from another checkpoint's weights: `continue`."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch
from accelerators import is_accelerated, pretend, pretend_absent
from helpers import (
    assert_close,
    evaluate,
    host_config,
    randomise,
    registered,
    save_checkpoint,
    structures,
    to_double,
)
from sevenn.logger import Logger
from sevenn.model_build import build_E3_equivariant_model
from train_helpers import (
    PBE,
    R2SCAN,
    fit_of,
    learning_rate,
    lines,
    same,
    weights,
    yaml_of,
)

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.config import inputs
from sevennet_mf.distributed import Process
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.evaluate.predict import predict
from sevennet_mf.model.load import load_model
from sevennet_mf.train.continuing.start import Start
from sevennet_mf.train.loop import run_folder
from sevennet_mf.train.loop.fit import Fit
from sevennet_mf.train.prepare import header, prepare_data, prepare_fit

FIDELITIES = ['r2scan', 'pbe', 'r2scan']


def started(sections: dict[str, Any], folder: Path) -> Fit:
    """As run.train() begins, up to the first step."""
    asked = inputs.read(sections)
    start = Start(asked)
    settled = prepare_data(asked, str(folder), Process(), start)
    with registered():
        model = build_E3_equivariant_model(copy.deepcopy(settled.config))
    fit = prepare_fit(settled, model, str(folder), Process())
    fit.state.epoch = start.load_into(fit.trainer, asked.host[KEY.EPOCH]) + 1
    return fit


def going_on(path: Path, folder: Path, reset: bool = True, **kwargs: Any) -> Fit:
    options: dict[str, Any] = {'checkpoint': str(path)}
    for what in ('optimizer', 'scheduler', 'epoch'):
        options[f'reset_{what}'] = reset
    return started(yaml_of(**{'continue': options}, **kwargs), folder)


def predictions(path: Path, fidelities: list[str] | None = None) -> dict[str, Any]:
    model = load_model(str(path)).model
    return evaluate(to_double(model), structures(3), fidelities or FIDELITIES)


@pytest.fixture(scope='module')
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two epochs, with shifts that were trained."""
    folder = tmp_path_factory.mktemp('ours')
    sections = yaml_of(model={'train_shift_scale': True}, per_epoch=1)
    fit = fit_of(sections, folder)
    randomise(fit.trainer.module)
    fit.run()
    return folder / 'checkpoint_2.pth'


# ------------------------------------------------------------------------- weights


@pytest.mark.parametrize('learn', [True, False])
def test_our_checkpoint_goes_on_as_it_was(
    tmp_path: Path, ours: Path, learn: bool
) -> None:
    fit = going_on(ours, tmp_path, model={'train_shift_scale': learn})
    fit.write('again.pth', 0)
    old, new = (checkpoint_file.load(str(p)) for p in (ours, tmp_path / 'again.pth'))
    assert same(old['model_state_dict'], new['model_state_dict'])
    assert_close(predictions(tmp_path / 'again.pth'), predictions(ours), atol=1e-9)


def test_labels_are_those_the_model_continues(tmp_path: Path, ours: Path) -> None:
    """Residuals are of the trained references, not of those in its config."""
    fit = going_on(ours, tmp_path)
    old = checkpoint_file.load(str(ours))
    shift = old['model_state_dict']['rescale_atomic_energy.shift'].double().numpy()
    untrained = old['config'][KEY.SHIFT]
    type_map = old['config'][KEY.TYPE_MAP]
    assert any(
        abs(shift[0, column] - untrained['pbe'][z]) > 1e-4
        for z, column in type_map.items()
    )
    train = fit.sets['trainset'].dataset
    for i in (0, 7):
        f = int(train.fidelity_index[i])
        reference = sum(
            train.composition[i, z] * shift[f, column]
            for z, column in type_map.items()
        )
        np.testing.assert_allclose(
            train.residual[i], train.energy[i] - reference, atol=1e-9
        )
    fit.run()
    assert lines(fit)[0]['trainset_r2scan_Energy_RMSE'] < 2


def host_checkpoint(folder: Path, names: tuple[str, ...], **model: Any) -> Path:
    """What the host alone writes: no key of ours, another order of fidelities."""
    model = {'chemical_species': ['Ga', 'In', 'N'], **model}
    asked = inputs.read(yaml_of(model=model))
    config = {**header(Process()), **asked.merged()}
    config = host_config(config)
    config[KEY.MODAL_MAP] = {name: i for i, name in enumerate(names)}
    config.update({
        KEY.SHIFT: {name: -3.0 - i for i, name in enumerate(names)},
        KEY.SCALE: 5.0,
        KEY.CONV_DENOMINATOR: 20.0,
    })
    torch.manual_seed(3)
    host = build_E3_equivariant_model(copy.deepcopy(config))
    return save_checkpoint(folder / 'host.pth', host, config)


def test_a_host_multi_modal_checkpoint_goes_on(tmp_path: Path) -> None:
    path = host_checkpoint(tmp_path, ('r2scan', 'pbe'))
    fit = going_on(path, tmp_path)
    assert fit.config[KEY.MODAL_MAP] == {'r2scan': 0, 'pbe': 1}  # its own
    names = fit.sets['trainset'].dataset.fidelities
    assert tuple(names) == ('r2scan', 'pbe')
    fit.write('again.pth', 0)
    assert_close(
        predictions(tmp_path / 'again.pth'), predictions(path), atol=1e-7, rtol=1e-7
    )
    old, new = (checkpoint_file.load(str(p)) for p in (path, tmp_path / 'again.pth'))
    for name, value in old['model_state_dict'].items():
        assert torch.equal(new['model_state_dict'][name], value), name
    np.testing.assert_allclose(fit.trainer.references[:, 0], [-3.0, -4.0])
    fit.run()
    assert len(lines(fit)) == 2


def test_a_plain_checkpoint_goes_on_with_one_fidelity(tmp_path: Path) -> None:
    first = fit_of(yaml_of(train=[R2SCAN]), tmp_path)
    first.run()
    path = tmp_path / run_folder.BEST_FILE
    fit = going_on(path, tmp_path / 'b', train=[R2SCAN])
    fit.write('../again.pth', 0)
    old, new = (checkpoint_file.load(str(p)) for p in (path, tmp_path / 'again.pth'))
    assert same(old['model_state_dict'], new['model_state_dict'])


def test_elements_are_the_checkpoints(tmp_path: Path) -> None:
    path = host_checkpoint(tmp_path, ('pbe', 'r2scan'))
    train = [{**PBE, 'index': ':4'}, {**R2SCAN, 'index': '1:4'}]  # no In
    fit = going_on(path, tmp_path, train=train, valid=[])
    assert sorted(fit.config[KEY.TYPE_MAP]) == [7, 31, 49]
    assert fit.config[KEY.CONV_DENOMINATOR] == [20.0]


def test_a_fidelity_without_new_data_is_kept(tmp_path: Path, ours: Path) -> None:
    """Weights, balanced or not, are those of the fidelities that are there."""
    fidelity = {
        'data': {'order': ['pbe', 'r2scan']},
        'train': {'loss_weight': 'balanced'},
    }
    fit = going_on(ours, tmp_path, train=[R2SCAN], fidelity=fidelity)
    before = weights(fit)
    fit.run()
    assert np.isfinite(lines(fit)[-1]['validset_r2scan_TotalLoss'])
    name = '0_self_interaction_1.linear.weight'
    assert not torch.equal(weights(fit)[name], before[name])


def test_a_continued_run_can_be_interrupted(tmp_path: Path, ours: Path) -> None:
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    fits = [going_on(ours, folder) for folder in (whole, parts)]
    fits[0].run()
    step = fits[1].trainer.step

    def stopping(batch: Any, stop: bool, present: Any) -> Any:
        return step(batch, fits[1].state.step == 1, present)

    fits[1].trainer.step = stopping  # type: ignore[method-assign]
    with pytest.raises(TrainingStopped, match='after step 2 of epoch 1'):
        fits[1].run()
    saved = run_folder.load_training_state(str(parts / run_folder.RESUME_FILE))
    again = going_on(ours, parts)
    again.resume(saved)
    again.run()
    assert same(weights(again), weights(fits[0]))
    np.testing.assert_equal(lines(again), lines(fits[0]))
    with pytest.raises(UserError, match='--resume: .* have changed'):
        fit_of(yaml_of(), parts).resume(saved)  # `continue` was taken out


# --------------------------------------------------------------------- reset_* flags


def test_everything_goes_on(tmp_path: Path, ours: Path) -> None:
    again = {'model': {'train_shift_scale': True}, 'epoch': 4}
    fit = going_on(ours, tmp_path, reset=False, **again)
    saved = checkpoint_file.load(str(ours))
    assert fit.state.epoch == 3
    np.testing.assert_allclose(learning_rate(fit), 0.01 * 0.9**2)
    optimizer = fit.trainer.optimizer.state_dict()
    assert str(optimizer) == str(saved['optimizer_state_dict'])
    fit.run()
    assert [row['epoch'] for row in lines(fit)] == [3, 4]
    # a run that is stopped in its first epoch can be resumed
    assert (tmp_path / run_folder.RESUME_FILE).is_file()


def test_everything_is_reset(tmp_path: Path, ours: Path) -> None:
    fit = going_on(ours, tmp_path, model={'train_shift_scale': True})
    assert fit.state.epoch == 1
    assert learning_rate(fit) == 0.01
    assert not fit.trainer.optimizer.state_dict()['state']


def test_nothing_left_to_train(tmp_path: Path, ours: Path) -> None:
    words = r'has reached epoch 2, and train\.epoch is 2.*reset_epoch: true'
    with pytest.raises(UserError, match=words):
        going_on(ours, tmp_path, reset=False, model={'train_shift_scale': True})


def test_another_optimiser(tmp_path: Path, ours: Path) -> None:
    content = torch.load(ours, weights_only=False)
    content['optimizer_state_dict']['param_groups'][0]['params'].pop()
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    with pytest.raises(UserError, match='does not fit.*reset_optimizer'):
        going_on(path, tmp_path, reset=False, model={'train_shift_scale': True})


def test_without_the_state_of_an_optimiser_it_starts_anew_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = host_checkpoint(tmp_path, ('pbe', 'r2scan'))  # its state is empty
    said: list[str] = []
    monkeypatch.setattr(Logger, 'writeline', lambda self, line: said.append(line))
    fit = going_on(path, tmp_path, reset=False)
    assert not fit.trainer.optimizer.state
    (line,) = [line for line in said if 'no state of the optimizer' in line]
    assert line.startswith('WARNING: train.continue: ')
    assert 'reset_optimizer: true' in line


@pytest.mark.parametrize('switch', ['use_flash_tp', 'use_oeq'])
def test_going_on_with_an_accelerator(
    tmp_path: Path, ours: Path, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes the constants in the state dict, and no weight."""
    pretend(monkeypatch)
    fit = going_on(ours, tmp_path, model={switch: True})
    assert is_accelerated(fit.trainer.module)
    fit.write('again.pth', 0)
    pretend_absent(monkeypatch)
    again = predictions(tmp_path / 'again.pth')
    assert_close(again, predictions(ours), atol=1e-9)


# ------------------------------------------------------------------------ mismatches


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (
            {'train': [R2SCAN], 'fidelity': {'data': {'order': ['r2scan']}}},
            r"has the fidelities \['pbe', 'r2scan'\], but the YAML has "
            r"\['r2scan'\]",
        ),
        (
            {'fidelity': {'model': {'encoding': 'lora'}}},
            "encoding 'bias', but model.fidelity.encoding is 'lora'",
        ),
        (
            {'fidelity': {'model': {'sites': ['output']}}},
            r"sites \['self_interaction_1', 'self_interaction_2', 'output'\], but "
            r"model\.fidelity\.sites is \['output'\]",
        ),
    ],
)
def test_models_that_differ(
    tmp_path: Path, ours: Path, kwargs: dict, words: str
) -> None:
    with pytest.raises(UserError, match=words) as raised:
        going_on(ours, tmp_path, **kwargs)
    assert str(raised.value).startswith(f'train.continue: {ours}')


@pytest.mark.parametrize(('key', 'value'), [('channel', 8), ('cutoff', 5.0)])
def test_an_architecture_that_differs(
    tmp_path: Path, ours: Path, key: str, value: float
) -> None:
    with pytest.raises(UserError, match=rf'^model\.{key} is {value}, but .* has 4'):
        going_on(ours, tmp_path, model={key: value})


def test_a_rank_that_differs(tmp_path: Path) -> None:
    lora = {'encoding': 'lora', 'rank': 2}
    fit = fit_of(yaml_of(fidelity={'model': lora}), tmp_path)
    fit.write('lora.pth', 1)
    path = tmp_path / 'lora.pth'
    other = {'encoding': 'lora', 'rank': 4}
    with pytest.raises(UserError, match='rank 2, but model.fidelity.rank is 4'):
        going_on(path, tmp_path, fidelity={'model': other})
    again = going_on(path, tmp_path, fidelity={'model': lora})
    assert same(weights(again), weights(fit))


def test_files_that_cannot_be_continued(tmp_path: Path, ours: Path) -> None:
    data = ours.read_bytes()
    (tmp_path / 'cut.pth').write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match='truncated'):
        going_on(tmp_path / 'cut.pth', tmp_path)
    content = checkpoint_file.load(str(ours))
    content['config']['version'] = '99.0.0'
    torch.save(content, tmp_path / 'new.pth')
    with pytest.raises(UserError, match='newer than the installed'):
        going_on(tmp_path / 'new.pth', tmp_path)


@pytest.mark.parametrize(
    ('kwargs', 'name'),
    [
        ({'data': {'scale': 5.0}}, 'data.scale'),
        ({'model': {'conv_denominator': 20.0}}, 'model.conv_denominator'),
        ({'model': {'chemical_species': ['Ga', 'In', 'N', 'O']}}, 'species'),
        (
            {'fidelity': {'data': {'reference_energies': {'r2scan': {'In': -7.0}}}}},
            'data.fidelity.reference_energies',
        ),
    ],
)
def test_what_the_checkpoint_brings_is_not_ignored_in_the_yaml(
    ours: Path, tmp_path: Path, kwargs: dict[str, Any], name: str
) -> None:
    with pytest.raises(UserError, match=f'{name} comes from .*Remove it'):
        going_on(ours, tmp_path, **kwargs)


def test_provenance_of_references_is_kept(ours: Path, tmp_path: Path) -> None:
    before = load_model(str(ours)).provenance['reference_energies']
    fit = going_on(ours, tmp_path)
    assert fit.config[keys.PROVENANCE]['reference_energies'] == before


# ----------------------------------------------------------- another level of theory


def transferred(path: Path, folder: Path, **kwargs: Any) -> Fit:
    options: dict[str, Any] = {'checkpoint': str(path)}
    options['use_statistic_values_of_checkpoint'] = False
    for what in ('optimizer', 'scheduler', 'epoch'):
        options[f'reset_{what}'] = True
    return started(yaml_of(**{'continue': options}, **kwargs), folder)


@pytest.fixture(scope='module')
def low(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('low')
    fit_of(yaml_of(train=[PBE], valid=[]), folder).run()
    return folder / 'checkpoint_best.pth'


def test_transfer_keeps_forces_and_refits_energies(
    low: Path, tmp_path: Path
) -> None:
    fit = transferred(low, tmp_path, train=[R2SCAN])
    fit.write('checkpoint_0.pth', 0)
    before = load_model(str(low)).model
    after = load_model(str(tmp_path / 'checkpoint_0.pth')).model
    data = fit.sets['trainset'].dataset
    old = predict(before, data, progress=False)
    new = predict(after, data, progress=False)
    for a, b in zip(old.forces, new.forces, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # the two functionals are several eV per atom apart
    gap = np.abs(old.label_energy - old.energy) / old.n_atoms
    left = np.abs(new.label_energy - new.energy) / new.n_atoms
    assert gap.max() > 1.0
    assert left.max() < 0.1


def test_transfer_is_of_one_fidelity(ours: Path, low: Path, tmp_path: Path) -> None:
    for path, train in ((ours, [R2SCAN]), (low, [PBE, R2SCAN])):
        with pytest.raises(UserError, match='one fidelity on labels of another'):
            transferred(path, tmp_path, train=train)
