"""Species, reference energies and statistics of a run, from real files."""

import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import sevenn._keys as KEY
import yaml
from sevenn.train.graph_dataset import SevenNetGraphDataset
from sevenn.train.modal_dataset import SevenNetMultiModalDataset
from train_helpers import (
    INGAN,
    MOLECULES,
    PBE,
    R2SCAN,
    VALID,
    data_of,
    entry,
    fit_of,
    yaml_of,
)

from sevennet_mf import keys
from sevennet_mf.audit.inspect import inspect
from sevennet_mf.errors import UserError
from sevennet_mf.train import setup

MANY_PBE = entry('pbe_train', 'pbe', ':60')
GAN = entry('r2scan_pool', 'r2scan', '1:5')  # four cells of GaN
GAN_AND_INN = entry('r2scan_pool', 'r2scan', ':5')  # and one of InN
GAN_VALID = entry('r2scan_valid', 'r2scan', '6:8')
MIXED_VALID = entry('r2scan_valid', 'r2scan', ':3')


def numbers(config: dict[str, Any], name: str) -> np.ndarray:
    """(119,) eV of one fidelity."""
    return np.array(config[KEY.SHIFT][name])


def by_sid(*files: str) -> dict[int, Any]:
    found = [a for f in files for a in ase.io.read(INGAN / f'{f}.extxyz', ':')]
    return {atoms.info['sid']: atoms for atoms in found}


def offset_errors(config: dict[str, Any], wanted: Any) -> list[float]:
    """eV/atom: how wrong the references alone are on r2SCAN minus PBE."""
    low = by_sid('pbe_train', 'pbe_valid')
    high = by_sid('r2scan_pool', 'r2scan_valid')
    shift = numbers(config, 'r2scan') - numbers(config, 'pbe')
    errors = []
    for sid in low.keys() & high.keys():
        a, b = low[sid], high[sid]
        if wanted(b):
            gap = b.get_potential_energy() - a.get_potential_energy()
            errors.append(abs(gap - shift[b.numbers].sum()) / len(b))
    return errors


# -------------------------------------------------------------- reference energies


def test_binaries_tell_the_offset_of_mixed_cells(tmp_path: Path) -> None:
    pool = ase.io.read(INGAN / 'r2scan_pool.extxyz', ':')
    binaries = [a for a in pool if a.info['x_In'] in (0.0, 1.0)]
    assert len(binaries) == 29
    ase.io.write(tmp_path / 'binaries.extxyz', binaries)
    train = [
        entry('pbe_train', 'pbe'),
        entry('binaries', 'r2scan', folder=tmp_path),
    ]
    config, _ = data_of(yaml_of(train=train), tmp_path)
    errors = offset_errors(config, lambda a: a.info['x_In'] not in (0.0, 1.0))
    assert len(errors) >= 20
    assert np.mean(errors) < 0.035


def test_one_paired_cell_tells_the_offset_of_inn(tmp_path: Path) -> None:
    train = [entry('pbe_train', 'pbe'), GAN_AND_INN]
    config, _ = data_of(yaml_of(train=train), tmp_path)
    errors = offset_errors(config, lambda a: a.info['x_In'] == 1.0)
    assert len(errors) >= 10
    assert np.mean(errors) < 0.035


def test_an_element_without_a_label_warns(tmp_path: Path) -> None:
    sections = yaml_of(train=[MANY_PBE, GAN], valid=[GAN_VALID])
    with pytest.warns(UserWarning, match="'r2scan'.* contains In: not determined"):
        config, _ = data_of(sections, tmp_path)
    # trap 1: the host would give it 0.0; here it is the base's, plus the offset
    shift = numbers(config, 'r2scan')
    assert shift[49] < numbers(config, 'pbe')[49] - 1.0


def test_a_target_that_needs_it_stops(tmp_path: Path) -> None:
    sections = yaml_of(train=[MANY_PBE, GAN], valid=[MIXED_VALID])
    words = (
        r"validset: the target 'r2scan' is not determined for 2 structures, the "
        r'first .*r2scan_valid\.extxyz:0.*In.*Add one labelled structure.*'
        r'data\.fidelity\.reference_energies: \{r2scan'
    )
    with pytest.raises(UserError, match=words):
        data_of(sections, tmp_path)


def test_other_sets_may_need_it(tmp_path: Path) -> None:
    """A test set stops nothing, nor does a fidelity that is not the target."""
    sections = yaml_of(
        train=[MANY_PBE, GAN],
        valid=[MIXED_VALID, entry('pbe_valid', 'pbe', ':3')],
        data={'load_r2scan_testset_path': [MIXED_VALID]},
        fidelity={'train': {'target': 'pbe'}},
    )
    with pytest.warns(UserWarning, match='In: not determined'):
        data_of(sections, tmp_path)


def test_a_given_number_settles_it(tmp_path: Path) -> None:
    given = {'reference_energies': {'r2scan': {'In': -12.345}}}
    sections = yaml_of(
        train=[MANY_PBE, GAN], valid=[MIXED_VALID], fidelity={'data': given}
    )
    config, sets = data_of(sections, tmp_path)  # a warning would be an error
    assert numbers(config, 'r2scan')[49] == np.float32(-12.345)
    mixed = sets['validset']
    composition = mixed.composition[0]
    wanted = mixed.energy[0] - composition @ numbers(config, 'r2scan')
    np.testing.assert_allclose(mixed.residual[0], wanted, atol=1e-9)


def test_independent_references(tmp_path: Path) -> None:
    shifts = {}
    for method in ('aligned', 'independent'):
        sections = yaml_of(
            train=[MANY_PBE, GAN_AND_INN],
            fidelity={'data': {'reference_energies': method}},
        )
        config, _ = data_of(sections, tmp_path)
        shifts[method] = config[KEY.SHIFT]
    assert shifts['aligned']['pbe'] == shifts['independent']['pbe']
    assert shifts['aligned']['r2scan'] != shifts['independent']['r2scan']


def test_residuals_are_small(tmp_path: Path) -> None:
    _, sets = data_of(yaml_of(train=[MANY_PBE, GAN_AND_INN]), tmp_path)
    train = sets['trainset']
    assert np.abs(train.energy / train.n_atoms).min() > 4  # eV/atom
    assert np.abs(train.residual / train.n_atoms).max() < 1


# --------------------------------------------------------------------------- species


def test_species_from_the_data(tmp_path: Path) -> None:
    config, _ = data_of(yaml_of(train=[MANY_PBE, GAN_AND_INN]), tmp_path)
    assert config[KEY.CHEMICAL_SPECIES] == ['Ga', 'In', 'N']
    assert sorted(config[KEY.TYPE_MAP]) == [7, 31, 49]
    assert config[KEY.NUM_SPECIES] == 3


def test_an_element_of_the_validation_set_only(tmp_path: Path) -> None:
    """The model must know it; that PBE has no label for it stops the run."""
    sections = yaml_of(train=[entry('pbe_train', 'pbe', ':4')], valid=[])
    sections['data']['load_validset_path'] = [entry('pbe_valid', 'pbe', ':1')]
    with pytest.raises(UserError, match="'pbe' is not determined"):
        data_of(sections, tmp_path)


def test_species_that_were_given(tmp_path: Path) -> None:
    model = {'chemical_species': ['N', 'Ga', 'In', 'Al']}
    with pytest.warns(UserWarning, match='contains Al: not determined'):
        config, _ = data_of(yaml_of(model=model), tmp_path)
    assert sorted(config[KEY.TYPE_MAP]) == [7, 13, 31, 49]
    assert numbers(config, 'r2scan')[13] != 0.0


def test_all_the_elements(tmp_path: Path) -> None:
    """Of a universal model's elements only those of the data are reported."""
    config, _ = data_of(yaml_of(model={'chemical_species': 'univ'}), tmp_path)
    assert len(config[KEY.TYPE_MAP]) > 100
    fit = fit_of(yaml_of(model={'chemical_species': 'univ'}), tmp_path)
    assert fit.trainer.references.shape == (2, len(config[KEY.TYPE_MAP]))


# ------------------------------------------------------------------------ the split


def test_each_fidelity_is_split(tmp_path: Path) -> None:
    sections = yaml_of(
        train=[
            entry('pbe_train', 'pbe', ':20'),
            entry('r2scan_pool', 'r2scan', ':10'),
        ],
        valid=[],
        data={'data_divide_ratio': 0.3},
    )
    _, sets = data_of(sections, tmp_path)
    counts = {
        name: [len(data.rows_of(f)) for f in ('pbe', 'r2scan')]
        for name, data in sets.items()
    }
    assert counts == {'trainset': [14, 7], 'validset': [6, 3]}
    own = [set(data.fingerprint.tolist()) for data in sets.values()]
    assert not own[0] & own[1]


def test_a_test_set_is_no_validation_set(tmp_path: Path) -> None:
    data = {'data_divide_ratio': 0.3, 'load_testset_path': [VALID]}
    _, sets = data_of(yaml_of(valid=[], data=data), tmp_path)
    assert {name: len(d) for name, d in sets.items()} == {
        'trainset': 7,
        'testset': 3,
        'validset': 3,
    }


@pytest.mark.parametrize(
    ('name', 'is_valid'),
    [
        ('validset', True),
        ('pbe_validset', True),
        ('latest_validset', True),
        ('trainset', False),
        ('testset', False),
        ('pbe_testset', False),
        ('test', False),
    ],
)
def test_which_sets_may_pick_the_best(name: str, is_valid: bool) -> None:
    assert setup.is_validation(name) is is_valid


# ------------------------------------------------------------------------ statistics


def forces(*entries: dict[str, Any]) -> np.ndarray:
    found = [a for e in entries for a in ase.io.read(e['file'], e['index'])]
    return np.concatenate([a.get_forces() for a in found])


def test_one_scale_for_all(tmp_path: Path) -> None:
    config, _ = data_of(yaml_of(), tmp_path)
    wanted = np.sqrt((forces(PBE, R2SCAN) ** 2).mean())
    np.testing.assert_allclose(config[KEY.SCALE], wanted, rtol=1e-5)
    assert type(config[KEY.SCALE]) is float


def test_one_scale_per_fidelity(tmp_path: Path) -> None:
    sections = yaml_of(fidelity={'model': {'scale': 'per_fidelity'}})
    config, _ = data_of(sections, tmp_path)
    for name, source in (('pbe', PBE), ('r2scan', R2SCAN)):
        wanted = np.sqrt((forces(source) ** 2).mean())
        np.testing.assert_allclose(config[KEY.SCALE][name], wanted, rtol=1e-5)
    fit = fit_of(sections, tmp_path)
    scale = fit.trainer.module._modules['rescale_atomic_energy'].scale
    assert scale.shape == (2, 3)


def test_the_spread_of_energies_as_scale(tmp_path: Path) -> None:
    sections = yaml_of(data={'scale': 'per_atom_energy_std'})
    config, sets = data_of(sections, tmp_path)
    train = sets['trainset']
    wanted = (train.residual / train.n_atoms).std()
    np.testing.assert_allclose(config[KEY.SCALE], wanted, rtol=1e-9)


def test_energy_only_data_has_a_scale(tmp_path: Path) -> None:
    """Trap 5: force_rms of no force is NaN.

    Beside a fidelity with forces it takes the scale of those, because the spread of
    its energies is another quantity; alone it takes its own spread.
    """
    train = [
        entry('pbe_train', 'pbe', ':6', MOLECULES),
        entry('ccsdt_train', 'ccsdt', ':6', MOLECULES),
    ]
    sections = yaml_of(
        train=train, valid=[], fidelity={'model': {'scale': 'per_fidelity'}}
    )
    config, sets = data_of(sections, tmp_path)
    scale = config[KEY.SCALE]
    assert scale['ccsdt'] == scale['pbe'] == sets['trainset'].force_rms('pbe')
    config, sets = data_of(yaml_of(train=train[1:], valid=[]), tmp_path / 'alone')
    data = sets['trainset']
    wanted = (data.residual / data.n_atoms).std()
    np.testing.assert_allclose(config[KEY.SCALE], wanted, rtol=1e-9)


def test_one_energy_has_no_spread(tmp_path: Path) -> None:
    train = [entry('ccsdt_train', 'ccsdt', ':1', MOLECULES)]
    config, _ = data_of(yaml_of(train=train, valid=[]), tmp_path)
    assert config[KEY.SCALE] == 1.0


def test_numbers_are_kept(tmp_path: Path) -> None:
    sections = yaml_of(data={'scale': 2}, model={'conv_denominator': 7})
    config, _ = data_of(sections, tmp_path)
    assert (config[KEY.SCALE], config[KEY.CONV_DENOMINATOR]) == (2.0, 7.0)


def test_the_convolutions_divide_by_what_the_host_divides(tmp_path: Path) -> None:
    files = {'pbe': (PBE, ':6'), 'r2scan': (R2SCAN, ':4')}
    host = SevenNetMultiModalDataset({
        name: SevenNetGraphDataset(
            cutoff=4.0,
            root=str(tmp_path),
            files=[source['file']],
            processed_name=name,
            index=index,
        )
        for name, (source, index) in files.items()
    })
    average = host.avg_num_neigh['total']
    for name, wanted in (
        ('avg_num_neigh', average),
        ('sqrt_avg_num_neigh', np.sqrt(average)),
    ):
        config, _ = data_of(yaml_of(model={'conv_denominator': name}), tmp_path)
        np.testing.assert_allclose(config[KEY.CONV_DENOMINATOR], wanted, rtol=1e-6)


# ---------------------------------------------------------------- inferred labels


ALL_PBE = entry('pbe_train', 'pbe')
POOL = entry('r2scan_pool', 'r2scan')


def test_labels_are_inferred_without_asking(tmp_path: Path) -> None:
    fit = fit_of(yaml_of(train=[ALL_PBE, POOL]), tmp_path)
    data = fit.sets['trainset']
    assert len(data.dataset) == 2 * 164  # every structure at both fidelities
    assert data.dataset.inferred.sum() == 164 - 47
    # and an epoch is no longer than before, 211 computed labels in batches of 4
    assert len(data.loader) == 53
    said = fit.config[keys.PROVENANCE]['inferred_labels']
    assert (said['base'], said['target']) == ('pbe', 'r2scan')
    assert (said['paired'], said['inferred']) == (47, 117)
    # residuals of inferred labels are as small as those of computed ones
    left = data.dataset.residual / data.dataset.n_atoms
    own = left[data.dataset.inferred]
    assert np.abs(own).mean() < 1.5 * np.abs(left).mean()


def test_labels_are_not_inferred_where_told_not_to(tmp_path: Path) -> None:
    block = {'data': {'inferred_labels': 'never'}}
    fit = fit_of(yaml_of(train=[ALL_PBE, POOL], fidelity=block), tmp_path)
    assert len(fit.sets['trainset'].dataset) == 164 + 47
    assert 'inferred_labels' not in fit.config[keys.PROVENANCE]


def test_steps_per_epoch_count_whatever_is_inferred(tmp_path: Path) -> None:
    block = {'train': {'steps_per_epoch': 7}}
    fit = fit_of(yaml_of(train=[ALL_PBE, POOL], fidelity=block), tmp_path)
    assert len(fit.sets['trainset'].loader) == 7


# ------------------------------------------------------- what training cannot use


def no_forces(entry_: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same structures in a file without forces."""
    frames = ase.io.read(entry_['file'], entry_['index'])
    for atoms in frames:
        atoms.calc.results.pop('forces')
    ase.io.write(path, frames, format='extxyz')
    return {**entry_, 'file': str(path), 'index': ':'}


def test_forces_in_validation_alone(tmp_path: Path) -> None:
    bare = no_forces(R2SCAN, tmp_path / 'bare.extxyz')
    train = [entry('pbe_train', 'pbe', ':6'), bare]
    message = r'r2scan has forces in validset, but none in its .*`force_key: null`'
    with pytest.raises(UserError, match=message):
        data_of(yaml_of(train=train), tmp_path)
    train[1]['force_key'] = None
    config, sets = data_of(yaml_of(train=train), tmp_path)
    assert not sets['trainset'].has['force'][6:].any()


@pytest.mark.parametrize('ratio', [None, 0.2])
def test_the_audit_fits_the_same_references(
    tmp_path: Path, ratio: float | None
) -> None:
    """Those of the training part, with inferred labels."""
    train = [entry('pbe_train', 'pbe', ':60'), entry('r2scan_pool', 'r2scan', ':20')]
    more = {} if ratio is None else {'data_divide_ratio': ratio}
    yaml_ = yaml_of(train=train, valid=[] if ratio else None, data=more)
    (tmp_path / 'input.yaml').write_text(yaml.safe_dump(yaml_))
    audit = inspect(str(tmp_path / 'input.yaml'))
    config, sets = data_of(yaml_, tmp_path)
    assert sets['trainset'].inferred.any()
    fitted = config[keys.PROVENANCE]['reference_energies']
    for name, own in fitted.items():
        for symbol, value in own.items():
            theirs = audit.references[name][symbol]
            assert theirs['energy'] == pytest.approx(value['energy'], abs=1e-9)


def test_a_base_that_is_the_rarest_by_default(tmp_path: Path) -> None:
    few, many = entry('r2scan_pool', 'r2scan', ':4'), entry('pbe_train', 'pbe', ':9')
    wrong = yaml_of(train=[few, many], valid=[])
    message = r"'r2scan' is the base and 'pbe' the target.*order: \[pbe, r2scan\]"
    with pytest.warns(UserWarning, match=message):
        data_of(wrong, tmp_path)
    (tmp_path / 'input.yaml').write_text(yaml.safe_dump(wrong))
    notes = inspect(str(tmp_path / 'input.yaml')).problems
    assert [p.severity for p in notes if p.kind == 'order'] == ['note']
    meant = yaml_of(
        train=[few, many], valid=[], fidelity={'data': {'order': ['r2scan', 'pbe']}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        data_of(meant, tmp_path)


# ---- what a YAML leaves out


def test_a_run_of_no_given_length_has_the_recipes_steps(tmp_path: Path) -> None:
    sections = yaml_of(train=[ALL_PBE, POOL])
    for name in ('epoch', 'optim_param', 'scheduler_param', 'force_loss_weight'):
        del sections['train'][name]
    fit = fit_of(sections, tmp_path)
    assert len(fit.sets['trainset'].loader) == 100  # a pass is 53
    said = fit.config[keys.PROVENANCE]['defaults']
    assert list(said) == ['recipe']
    assert said['recipe']['loss'] == 'huber'
    assert fit.trainer.scheduler.total_iters == fit.config[KEY.EPOCH] == 30
    # of many structures an epoch is a pass, with labels that are inferred left out
    sections['data']['batch_size'] = 1
    assert len(fit_of(sections, tmp_path).sets['trainset'].loader) == 211
