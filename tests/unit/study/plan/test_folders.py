"""The folders of a study's runs, and what happens when it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from commandline import DATA, entry, snapshot
from study_inputs import TEST, input_yaml, write_study

from sevennet_mf.config import inputs
from sevennet_mf.errors import UserError
from sevennet_mf.study import status
from sevennet_mf.study.plan import folders as module
from sevennet_mf.study.plan.rows import check
from sevennet_mf.study.plan.study_yaml import METHODS, read_study
from sevennet_mf.study.report import run_results
from sevennet_mf.study.runs import Run, read_run

POOL, VALID = 'ingan/r2scan_pool.extxyz', 'ingan/r2scan_valid.extxyz'


def plan(
    folder: Path, sections: dict[str, Any] | None = None, **study: Any
) -> list[Run]:
    path = write_study(folder, sections, **study)
    return module.plan(read_study(path), folder / 'study')


def begun(runs: list[Run]) -> list[Run]:
    """As if each had been started once."""
    for run in runs:
        (run.folder / status.RUN_LOCK).touch()
    return runs


def yaml_of(run: Run) -> dict[str, Any]:
    return inputs.load_yaml(str(run.folder / 'train.yaml'))


def sources(path: str | Path, index: str = ':') -> list[str]:
    return [atoms.info['source'] for atoms in read(path, index)]


def trained_on(run: Run, fidelity: str = 'r2scan') -> list[str]:
    """Where the structures of a fidelity in a run's training come from."""
    return [
        source
        for e in yaml_of(run)['data']['load_trainset_path']
        if e['fidelity'] == fidelity
        for source in sources(e['file'], e.get('index', ':'))
    ]


def test_all_runs_of_all_methods(tmp_path: Path) -> None:
    runs = plan(tmp_path, methods=list(METHODS), labels=[4, 'all', 8], seeds=[1, 2])
    names = {run.name for run in runs}
    assert names == {
        *(f'{m}/n{n}_seed{s}' for m in METHODS for n in (4, 8) for s in (1, 2)),
        'low/seed1',
        'low/seed2',
    }
    seen: set[str] = set()
    for run in runs:
        assert set(run.needs) <= seen  # what is needed comes first
        seen.add(run.name)
        wanted = (
            [f'low/seed{run.seed}'] if run.method in ('transfer', 'delta') else []
        )
        assert list(run.needs) == wanted
        assert read_run(run.folder) == run
        assert run.out == tmp_path / 'study'
        if run.method != 'host_modality':
            low = 1 if run.needs or run.method == 'low' else 0
            assert sum(run.steps) == (1 if run.method == 'low' else 2), low


def test_labels_are_nested_and_the_same_for_all_methods(tmp_path: Path) -> None:
    runs = plan(
        tmp_path, methods=['high_only', 'multi_fidelity'], labels=[2, 4, 'all']
    )
    by_name = {run.name: trained_on(run) for run in runs}
    two, four, every = (by_name[f'high_only/n{n}_seed1'] for n in (2, 4, 8))
    assert four[:2] == two
    assert every[:4] == four
    assert len(set(every)) == 8
    assert by_name['multi_fidelity/n4_seed1'] == four


def test_what_a_run_is_said_to_be(tmp_path: Path) -> None:
    runs = plan(tmp_path, methods=['high_only', 'multi_fidelity'])
    alone, several = (run.content for run in runs)
    assert (alone['low_labels'], several['low_labels']) == (0, 16)
    assert (alone['labels'], alone['test_structures']) == (4, 5)
    told = json.loads((tmp_path / 'study' / 'study.json').read_text())
    assert told['target'] == 'r2scan'
    assert told['training'] == {
        'pool': 8,
        'pool_low_labelled': 1,
        'others': {'pbe': 16},
    }
    assert told['methods'] == ['high_only', 'multi_fidelity']
    assert list(told['rows']) == ['high_only', 'multi_fidelity']
    assert told['batch_size'] == 4
    assert 'cannot' not in several


def test_every_model_knows_all_elements(tmp_path: Path) -> None:
    sections = input_yaml()
    sections['data']['load_trainset_path'][1]['index'] = ':3'
    (run,) = plan(tmp_path, sections, labels=['all'])
    assert yaml_of(run)['model']['chemical_species'] == ['Ga', 'In', 'N']


def test_the_same_again_changes_no_file(tmp_path: Path) -> None:
    methods = list(METHODS)
    plan(tmp_path, methods=methods, run={'threads': 1})
    before = snapshot(tmp_path / 'study')
    plan(tmp_path, methods=methods, run={'threads': 2, 'parallel': 3})
    assert snapshot(tmp_path / 'study') == before


def test_a_study_may_grow(tmp_path: Path) -> None:
    plan(tmp_path)
    before = snapshot(tmp_path / 'study' / 'runs')
    runs = plan(
        tmp_path, methods=['high_only', 'delta'], labels=[2, 4], seeds=[1, 7]
    )
    assert len(runs) == 4 + 2 + 4
    after = snapshot(tmp_path / 'study' / 'runs')
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (
            {'methods': ['multi_fidelity'], 'steps': 4},
            r'the runs in .*study were made with steps: 2, but now it is 4, .* -o',
        ),
        (
            {'methods': ['multi_fidelity'], 'checkpoint': 'last'},
            r'were made with checkpoint: best, but now it is last',
        ),
        ({'steps': 4}, r'the run high_only/n4_seed1 already exists, but its'),
        (
            {'checkpoint': 'last'},
            r'run.json would change \(checkpoint: best -> last\).*folder with -o',
        ),
        ({'split': {'by': 'random', 'test': 0.3}}, r'\.extxyz would change'),
    ],
)
def test_another_study_in_its_folder_is_refused(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    begun(plan(tmp_path))
    before = snapshot(tmp_path / 'study')
    with pytest.raises(UserError, match=words):
        plan(tmp_path, **change)
    assert snapshot(tmp_path / 'study') == before


def test_another_model_is_refused(tmp_path: Path) -> None:
    begun(plan(tmp_path))
    sections = input_yaml()
    sections['model']['channel'] = 8
    match = r'its train.yaml would change \(model.channel: 4 -> 8\)'
    with pytest.raises(UserError, match=match):
        plan(tmp_path, sections)


@pytest.mark.parametrize('dry_run', [True, False])
def test_another_training_for_other_rows_is_refused(
    dry_run: bool, tmp_path: Path
) -> None:
    begun(plan(tmp_path))
    before = snapshot(tmp_path / 'study')
    sections = input_yaml()
    sections['train']['optim_param']['lr'] = 0.5
    study = read_study(write_study(tmp_path, sections, methods=['delta']))
    match = r'with input_yaml\.train\.optim_param\.lr: 0.01, but now it is 0.5'
    with pytest.raises(UserError, match=match):
        module.plan(study, tmp_path / 'study', dry_run)
    assert snapshot(tmp_path / 'study') == before


def test_a_variant_stays_what_it_was(tmp_path: Path) -> None:
    def slow(rate: float) -> dict[str, Any]:
        change = {'train': {'optim_param': {'lr': rate}}}
        return {'slow': {'method': 'high_only', 'set': change}}

    begun(plan(tmp_path, variants=slow(0.001)))
    words = r'with variants.slow.set.train.optim_param.lr: 0.001, but now it is 0.1'
    with pytest.raises(UserError, match=words):
        plan(tmp_path, variants=slow(0.1), labels=[2])


def test_what_failed_may_be_corrected(tmp_path: Path) -> None:
    """A variant whose learning rate is too large, beside a run that is done."""

    def slow(rate: float) -> dict[str, Any]:
        change = {'train': {'optim_param': {'lr': rate}}}
        return {'slow': {'method': 'high_only', 'set': change}}

    done, failed = begun(plan(tmp_path, variants=slow(1e9)))
    (done.folder / 'result.json').write_text('{"seed": 1}')
    (failed.folder / 'failed.json').write_text('{"message": "Invalid"}')
    before = snapshot(done.folder)
    _, again = plan(tmp_path, variants=slow(0.002))
    assert again.folder == failed.folder
    assert yaml_of(again)['train']['optim_param']['lr'] == 0.002
    assert not (again.folder / 'failed.json').exists()
    kept = tmp_path / 'study' / 'failed' / 'slow' / 'n4_seed1_1'
    assert (kept / 'failed.json').is_file()
    assert snapshot(done.folder) == before
    rows = json.loads((tmp_path / 'study' / 'study.json').read_text())['rows']
    assert rows['slow']['set']['train']['optim_param']['lr'] == 0.002
    # the rest is equal for all
    (again.folder / 'failed.json').write_text('{"message": "Invalid"}')
    with pytest.raises(UserError, match=r'would change \(.*steps_per_epoch: 2 -> 4'):
        plan(tmp_path, variants=slow(0.002), steps=4)


def test_where_all_failed_anything_may_be_corrected(tmp_path: Path) -> None:
    sections = input_yaml()
    sections['train']['optim_param']['lr'] = 1e9
    methods = ['high_only', 'delta']
    runs = plan(tmp_path, sections, methods=methods)
    for run in begun([run for run in runs if not run.needs]):
        (run.folder / 'failed.json').write_text('{"message": "Invalid"}')
    for run in plan(tmp_path, input_yaml(), methods=methods):
        assert yaml_of(run)['train']['optim_param']['lr'] == 0.01


def test_withdrawn_rows_are_told_apart(tmp_path: Path) -> None:
    variants = {'wide': {'method': 'delta', 'set': {'model': {'channel': 8}}}}
    plan(tmp_path, variants=variants)
    plan(tmp_path, methods=['multi_fidelity'])
    told = json.loads((tmp_path / 'study' / 'study.json').read_text())
    assert list(told['rows']) == ['multi_fidelity']
    assert told['withdrawn'] == {
        'high_only': {'method': 'high_only', 'set': {}},
        'wide': variants['wide'],
    }
    # no row of them, nor what only they need
    found = run_results.collect(str(tmp_path / 'study'))
    assert {run.row for run in found} == {'multi_fidelity'}
    plan(tmp_path, methods=['multi_fidelity', 'high_only'], variants=variants)
    told = json.loads((tmp_path / 'study' / 'study.json').read_text())
    assert 'withdrawn' not in told


def test_a_moved_study_is_told(tmp_path: Path) -> None:
    begun(plan(tmp_path))
    study = read_study(str(tmp_path / 'study.yaml'))
    (tmp_path / 'study').rename(tmp_path / 'moved')
    with pytest.raises(UserError, match='the study was moved. Move it back'):
        module.plan(study, tmp_path / 'moved')


def test_the_folder_may_have_any_name(tmp_path: Path) -> None:
    (run,) = plan(tmp_path)
    sections = yaml_of(run)
    (first,) = sections['data']['load_trainset_path']
    # what a run will make itself may lack; data below a folder of that name not
    first['file'] = '/differences/study/data/train.extxyz'
    with pytest.raises(UserError, match='x/train.yaml: .*no such file'):
        check(sections, 'x/train.yaml')
    first['file'] = '/study/runs/delta/n4_seed1/differences/train.extxyz'
    check(sections, 'x/train.yaml')


def test_a_plan_that_failed_leaves_the_folder_free(tmp_path: Path) -> None:
    variant = {'method': 'multi_fidelity', 'set': {'model': {'chanel': 8}}}
    with pytest.raises(UserError, match="study.variants.wide: .*mean 'channel'"):
        plan(tmp_path, variants={'wide': variant})
    # no run was planned, so the data may still be others
    assert plan(tmp_path, split={'by': 'random', 'test': 0.3})


def test_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path))
    (run,) = module.plan(study, tmp_path / 'study', dry_run=True)
    assert run.name == 'high_only/n4_seed1'
    assert not (tmp_path / 'study').exists()


def test_a_dry_run_of_a_larger_study_writes_nothing(tmp_path: Path) -> None:
    plan(tmp_path)
    before = snapshot(tmp_path / 'study')
    path = write_study(tmp_path, methods=['high_only', 'delta'], seeds=[1, 2])
    runs = module.plan(read_study(path), tmp_path / 'study', dry_run=True)
    assert len(runs) == 6
    assert {run.out for run in runs} == {tmp_path / 'study'}
    assert snapshot(tmp_path / 'study') == before


def test_a_dry_run_tells_of_other_data(tmp_path: Path) -> None:
    plan(tmp_path)
    path = write_study(tmp_path, split={'by': 'random', 'test': 0.3})
    with pytest.raises(UserError, match=r'study/data/.*\.extxyz would change'):
        module.plan(read_study(path), tmp_path / 'study', dry_run=True)


def test_steps_of_the_host_too_far_from_the_others(tmp_path: Path) -> None:
    methods = ['high_only', 'host_modality']
    near = {
        r.name: r.content for r in plan(tmp_path / 'a', methods=methods, steps=5)
    }
    assert 'cannot' not in near['host_modality/n4_seed1']
    far = {r.name: r.content for r in plan(tmp_path / 'b', methods=methods, steps=2)}
    assert 'cannot' not in far['high_only/n4_seed1']
    words = 'of 5 steps each: the nearest number, 5 steps, is too different from'
    assert words in far['host_modality/n4_seed1']['cannot']


# ---- validation


def test_one_validation_set_chooses_as_in_training(tmp_path: Path) -> None:
    sections = input_yaml()
    given = sections['data'].pop('load_validset_path')
    more = entry(POOL, 'r2scan', '20:26')
    sections['data']['load_other_path'] = [more, given[0]]
    sections['data']['load_validset_path'] = [given[1]]
    plan(tmp_path, sections)
    data = tmp_path / 'study' / 'data'
    assert sources(data / 'valid_r2scan.extxyz') == [
        f'{DATA / VALID}:{i}' for i in range(4)
    ]
    # of PBE it has none: the first that has some
    assert len(sources(data / 'valid_pbe.extxyz')) == 4


def test_low_labels_for_validation_are_no_part_of_differences(
    tmp_path: Path,
) -> None:
    sections = input_yaml()
    # the mixed cells at both levels, PBE's for validation alone
    sections['data']['load_trainset_path'][1] = entry(
        'ingan/mixing_r2scan.extxyz', 'r2scan', ':'
    )
    sections['data']['load_validset_path'][0] = entry(
        'ingan/mixing_pbe.extxyz', 'pbe', ':'
    )
    test = [entry(POOL, 'r2scan', ':3')]
    plan(tmp_path, sections, methods=['delta'], test=test)
    assert (tmp_path / 'study' / 'data' / 'paired.extxyz').read_text() == ''
    told = json.loads((tmp_path / 'study' / 'study.json').read_text())
    assert told['training']['pool_low_labelled'] == 0


# ---- splits


def numbers_of(path: Path) -> list[set[str]]:
    return [set(atoms.symbols) for atoms in read(path, ':')]


def test_composition_split(tmp_path: Path) -> None:
    sections = input_yaml()
    sections['data']['load_trainset_path'][1] = entry(POOL, 'r2scan', ':')
    sections['data']['load_validset_path'][1] = entry(VALID, 'r2scan', ':')
    block = {'by': 'composition', 'train': ['GaN', 'InN']}
    (run,) = plan(tmp_path, sections, split=block, labels=['all'])
    data = tmp_path / 'study' / 'data'
    assert run.labels == 29  # the binaries
    assert all(len(s) == 3 for s in numbers_of(data / 'test.extxyz'))
    assert all(len(s) == 2 for s in numbers_of(data / 'valid_r2scan.extxyz'))


def test_test_structures_the_low_data_knows_are_counted(tmp_path: Path) -> None:
    sections = input_yaml()
    sections['data']['load_trainset_path'] = [
        entry('ingan/pbe_train.extxyz', 'pbe', ':80'),
        entry(POOL, 'r2scan', ':'),
    ]
    study = {'split': {'by': 'random', 'test': 0.5}, 'labels': [3]}
    (run,) = plan(tmp_path, sections, methods=['multi_fidelity'], **study)
    data = tmp_path / 'study' / 'data'
    # the same number in two files of the data is the same structure
    pbe = {a.info['sid'] for a in read(DATA / 'ingan/pbe_train.extxyz', ':80')}
    r2scan = read(DATA / POOL, ':')
    tested = [int(s.rpartition(':')[2]) for s in sources(data / 'test.extxyz')]
    both = sum(r2scan[i].info['sid'] in pbe for i in tested)
    assert 0 < both < len(tested)
    assert run.content['test_low_labelled'] == both


def test_anchors_are_in_the_smallest_training_set(tmp_path: Path) -> None:
    sections = input_yaml()
    sections['data']['load_trainset_path'][1] = entry(POOL, 'r2scan', ':')
    sections['data']['load_validset_path'][1] = entry(VALID, 'r2scan', ':')
    block = {'by': 'element', 'element': ['In'], 'anchors': 1}
    runs = plan(tmp_path, sections, split=block, labels=[2], seeds=[1, 2])
    for run in runs:
        (e,) = yaml_of(run)['data']['load_trainset_path']
        anchor, _ = read(e['file'], e['index'])
        assert 'In' in anchor.symbols


def test_a_share_for_validation_is_taken_once(tmp_path: Path) -> None:
    sections = input_yaml()
    del sections['data']['load_validset_path']
    sections['data']['data_divide_ratio'] = 0.25
    runs = plan(
        tmp_path, sections, methods=['multi_fidelity'], labels=['all'], seeds=[1, 2]
    )
    assert [run.labels for run in runs] == [6, 6]
    data = tmp_path / 'study' / 'data'
    valid = sources(data / 'valid_r2scan.extxyz')
    for run in runs:
        assert sorted(trained_on(run) + valid) == sorted(
            f'{DATA / POOL}:{i}' for i in range(8)
        )
        assert 'data_divide_ratio' not in yaml_of(run)['data']
    low = sources(data / 'valid_pbe.extxyz') + sources(data / 'train_pbe.extxyz')
    assert len(set(low)) == 16


def test_structures_may_name_their_fidelity(tmp_path: Path) -> None:
    from ase.io import write

    frames = []
    for name, file in (('pbe', 'ingan/pbe_train.extxyz'), ('r2scan', POOL)):
        for atoms in read(DATA / file, ':6'):
            atoms.info['level'] = name
            frames.append(atoms)
    write(tmp_path / 'both.extxyz', frames)
    sections = input_yaml()
    sections['data']['load_trainset_path'] = [{'file': 'both.extxyz'}]
    sections['data']['fidelity'] = {'order': ['pbe', 'r2scan'], 'key': 'level'}
    runs = plan(tmp_path, sections, methods=['high_only', 'delta'], labels=[5])
    assert all(source.startswith(str(tmp_path)) for source in trained_on(runs[0]))
    assert len(trained_on(runs[1], 'pbe')) == 6
    assert len(read(tmp_path / 'study' / 'data' / 'test.extxyz', ':')) == 5


# ---- three fidelities, and variants


def three() -> dict[str, Any]:
    sections = input_yaml()
    sections['data']['load_trainset_path'].insert(
        1, entry('ingan/mixing_pbe.extxyz', 'mid', ':')
    )
    sections['data']['fidelity'] = {'order': ['pbe', 'mid', 'r2scan']}
    return sections


def test_low_is_of_all_others_and_folded_for_transfer(tmp_path: Path) -> None:
    low, transfer, delta = plan(tmp_path, three(), methods=['transfer', 'delta'])
    assert yaml_of(low)['data']['fidelity']['order'] == ['pbe', 'mid']
    assert low.content['low_labels'] == 21
    assert [stage['kind'] for stage in transfer.stages] == ['fold', 'train']
    sections = yaml_of(transfer)
    assert sections['model']['use_bias_in_linear'] is True
    start = Path(sections['train']['continue']['checkpoint'])
    assert start.parent == transfer.folder
    assert [stage['kind'] for stage in delta.stages] == ['differences', 'train']


def test_variants_are_rows_of_their_own(tmp_path: Path) -> None:
    variants = {
        'gain': {
            'method': 'multi_fidelity',
            'set': {'model': {'fidelity': {'encoding': 'gain'}}},
        },
        'wide': {'method': 'delta', 'set': {'model': {'channel': 8}}},
        'sites': {
            'method': 'host_modality',
            'set': {'model': {'use_modal_node_embedding': True}},
        },
    }
    runs = plan(tmp_path, methods=['delta'], variants=variants)
    found = {run.name: run for run in runs}
    assert set(found) == {
        'low/seed1',
        'delta/n4_seed1',
        'gain/n4_seed1',
        'low_wide/seed1',
        'wide/n4_seed1',
        'sites/n4_seed1',
    }
    assert yaml_of(found['gain/n4_seed1'])['model']['fidelity']['encoding'] == 'gain'
    assert found['gain/n4_seed1'].row == 'gain'
    assert found['gain/n4_seed1'].method == 'multi_fidelity'
    # its low model is as wide as the model of the difference
    assert found['wide/n4_seed1'].needs == ('low_wide/seed1',)
    for name in ('low_wide/seed1', 'wide/n4_seed1'):
        assert yaml_of(found[name])['model']['channel'] == 8
    assert yaml_of(found['sites/n4_seed1'])['model']['use_modal_node_embedding']


def test_words_of_the_training_are_those_of_every_run(tmp_path: Path) -> None:
    sections = input_yaml()
    block = {
        'loss': {'force': 'l2mae'},
        'energy_loss_weight': 2.0,
        'grad_clip': 5.0,
        'ema': {'decay': 0.99},
        'report_to': ['tensorboard'],
    }
    sections['train'].update(scheduler='onecyclelr', scheduler_param={})
    sections['train'].setdefault('fidelity', {}).update(block)
    methods = ['high_only', 'multi_fidelity', 'transfer', 'delta', 'host_modality']
    found = plan(tmp_path, sections, methods=methods)
    for run in found:
        if run.content['method'] == 'host_modality':
            assert 'own schedules count epochs' in run.content['cannot']
            continue
        train = yaml_of(run)['train']
        assert train['scheduler'] == 'onecyclelr'
        assert {k: train['fidelity'][k] for k in block} == block


# ---- what cannot be


def broken(**data: Any) -> dict[str, Any]:
    sections = input_yaml()
    sections['data'].update(data)
    return sections


TRAIN = input_yaml()['data']['load_trainset_path']


@pytest.mark.parametrize(
    ('sections', 'study', 'words'),
    [
        (
            None,
            {'labels': [9]},
            "study.labels: 9 is more than the 8 labelled .*'all'",
        ),
        (None, {'input_yaml': 'inptu.yaml'}, "no such file: .*mean 'input.yaml'"),
        (None, {'test': ['nowhere.extxyz']}, r'study.test\[0\]: no such file'),
        (
            None,
            {'test': [entry(POOL, 'pbe', ':')]},
            r"study.test\[0\].fidelity must be the target 'r2scan', got 'pbe'",
        ),
        (
            None,
            {'labels': [1]},
            r'study.labels: 1 are too few .* At least 2 labels are needed',
        ),
        (
            None,
            {'test': [entry(POOL, 'r2scan', '6:12')]},
            r'study.test: 2 of 6 structures of r2scan .* in its training data',
        ),
        (
            None,
            {'test': [entry(VALID, 'r2scan', '3:')]},
            r'study.test: 1 of \d+ structures of r2scan in .* its validation data',
        ),
        (
            broken(load_validset_path=None),
            {},
            "no validation data of the target 'r2scan' to .* `checkpoint: last`",
        ),
        (
            {
                **input_yaml(),
                'train': {**input_yaml()['train'], 'device': 'cuda:1'},
            },
            {},
            'train.device: cuda:1 is not allowed, .* Write cuda, .*CUDA_VISIBLE',
        ),
        (broken(data_divide_ratio=0.1), {}, 'data_divide_ratio: 0.1 and load_valid'),
        (
            broken(load_trainset_path=TRAIN[1:], load_validset_path=None),
            {},
            "input.yaml has only the fidelity 'r2scan'",
        ),
        (
            {**input_yaml(), 'train': {'continue': {'checkpoint': '7net-0'}}},
            {},
            'input.yaml has train.continue, but all methods .* new weights',
        ),
        (
            {**input_yaml(), 'train': {'optim_param': {'lr': -1}}},
            {},
            'input.yaml: train.optim_param: Invalid learning rate: -1; adam was',
        ),
        (
            {**input_yaml(), 'train': {'scheduler_param': {'gamma': 'x'}}},
            {},
            'input.yaml: train.scheduler_param: .*; exponentiallr was given',
        ),
        (
            {**input_yaml()}
            | {'train': {'fidelity': {'early_stopping': {'patience': 3}}}},
            {},
            'early_stopping, but all methods of a study take the same number of',
        ),
        ({**input_yaml(), 'train': 'oops'}, {}, 'section train must be a block'),
        (
            None,
            {'split': {'by': 'element', 'element': ['In'], 'anchors': 0}},
            'no validation data of the target .*left after the split',
        ),
    ],
)
def test_what_cannot_be_is_said_before_any_run(
    sections: dict[str, Any] | None,
    study: dict[str, Any],
    words: str,
    tmp_path: Path,
) -> None:
    if study.get('split'):
        sections = input_yaml()
        # of indium alone
        indium = [
            i
            for i, atoms in enumerate(read(DATA / VALID, ':'))
            if 'In' in atoms.symbols
        ]
        sections['data']['load_validset_path'] = [
            entry(VALID, 'r2scan', str(indium[0]))
        ]
    with pytest.raises(UserError, match=words):
        plan(tmp_path, sections, **study)
    assert not (tmp_path / 'study' / 'runs').exists()


def aluminium(folder: Path) -> dict[str, Any]:
    """A test file with one structure of an element that no label has."""
    first = read(DATA / POOL, '20')
    found = first.copy()
    found.symbols[0] = 'Al'
    results = {k: first.calc.results[k] for k in ('energy', 'forces')}
    found.calc = SinglePointCalculator(found, **results)
    folder.mkdir(exist_ok=True)
    write(folder / 'al.extxyz', found)
    return {'file': str(folder / 'al.extxyz'), 'fidelity': 'r2scan'}


def test_energies_that_no_label_tells_are_not_measured(tmp_path: Path) -> None:
    words = (
        r'study.test: 1 of \d+ test structures, the first .*al.extxyz.*, contain '
        'Al, which no training label .* eV per atom .* Remove them'
    )
    with pytest.raises(UserError, match=words):
        plan(tmp_path, test=[TEST, aluminium(tmp_path)])
    # numbers settle that; nitrides alone do not tell nitrogen from the rest
    sections = input_yaml()
    numbers = {'r2scan': {'Al': -3.0, 'N': -8.0}}
    sections['data']['fidelity'] = {'reference_energies': numbers}
    plan(tmp_path, sections, test=[TEST, aluminium(tmp_path)])


def test_an_element_left_out_on_purpose_is_told(tmp_path: Path) -> None:
    sections = input_yaml()
    sections['data']['load_trainset_path'][1]['index'] = ':'
    split = {'by': 'element', 'element': ['In'], 'anchors': 0}
    with pytest.warns(UserWarning, match='contain In, .* `anchors: 1` solves this'):
        plan(tmp_path, sections, split=split, checkpoint='last')
    told = json.loads((tmp_path / 'study' / 'study.json').read_text())['test']
    assert told['doubt'].endswith('Forces are not affected.')


def test_a_plain_yaml_is_no_input(tmp_path: Path) -> None:
    sections = input_yaml()
    del sections['model']['fidelity'], sections['train']['fidelity']
    sections['data']['load_trainset_path'] = ['a.extxyz']
    del sections['data']['load_validset_path']
    with pytest.raises(UserError, match='input.yaml names no fidelity'):
        plan(tmp_path, sections)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'is not a run of a study: it has no run'):
        read_run(tmp_path)
    (tmp_path / 'run.json').write_text('{"name": "x"}')
    with pytest.raises(UserError, match=r'run.json cannot be used'):
        read_run(tmp_path)


def test_rows_share_what_the_yaml_leaves_out(tmp_path: Path) -> None:
    """SevenNet has other defaults, and rows are to differ in their method only."""
    sections = input_yaml()
    for name in ('optim_param', 'scheduler', 'scheduler_param'):
        del sections['train'][name]
    methods = ['multi_fidelity', 'transfer', 'host_modality']
    runs = plan(tmp_path, sections, methods=methods, steps=100)
    trainings = [yaml_of(run)['train'] for run in runs if run.method in methods]
    assert len(trainings) == 3
    for name in ('loss', 'loss_param', 'force_loss_weight', 'stress_loss_weight'):
        assert len({str(train[name]) for train in trainings}) == 1
    for train in trainings:
        assert train['loss'] == 'huber'
        assert train['optim_param'] == {'lr': 0.01}
        assert train['scheduler_param']['total_iters'] == train['epoch']
