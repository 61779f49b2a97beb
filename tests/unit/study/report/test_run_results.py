"""Runs of a study, collected: what is there, in which order, and results.csv."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic_study as synthetic
from study_inputs import write_study

from sevennet_mf.errors import UserError
from sevennet_mf.study import status
from sevennet_mf.study.plan.folders import plan
from sevennet_mf.study.plan.study_yaml import read_study
from sevennet_mf.study.report import run_results
from sevennet_mf.study.report.run_results import RunResult, aggregate, collect


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return synthetic.study(tmp_path / 'study')


def one(out: Path, name: str) -> RunResult:
    (found,) = [r for r in collect(str(out)) if r.name == name]
    return found


def test_every_run_is_there_in_the_order_of_the_study(out: Path) -> None:
    found = collect(str(out))
    assert len(found) == 60
    assert [r.state for r in found].count('done') == 59
    assert list(dict.fromkeys(r.row for r in found)) == list(synthetic.POWER_LAWS)
    first = [(r.labels, r.seed) for r in found[:12]]
    assert first == [(n, seed) for n in (4, 8, 16, 29) for seed in (1, 2, 3)]


def test_a_run_is_read_from_its_files(out: Path) -> None:
    run = one(out, 'delta/n8_seed2')
    assert (run.row, run.labels, run.seed, run.state) == ('delta', 8, 2, 'done')
    assert run.steps == (1500, 1500)
    assert run.parameters == 2 * 41208
    assert run.low_labels == 164
    assert run.test_low_labelled == 6
    path = out / 'runs/delta/n8_seed2/result.json'
    told = json.loads(path.read_text())['errors']
    assert run.error('force', 'rmse') == told['force']['rmse']
    assert run.error('stress', 'mae') is None


def test_a_failed_run_says_why_and_counts_nowhere(out: Path) -> None:
    run = one(out, 'transfer/n8_seed2')
    assert run.state == 'failed'
    assert 'needs more memory' in run.message
    spread = aggregate(collect(str(out)), 'energy', 'mae')['transfer', 8]
    assert spread.seeds == (1, 3)


def test_a_run_that_failed_before_it_was_described(tmp_path: Path) -> None:
    folder = tmp_path / 'runs' / 'delta' / 'n8_seed2'
    synthetic.dump(folder / 'failed.json', {'message': 'no such file: low.yaml'})
    (run,) = collect(str(tmp_path))
    assert (run.row, run.labels, run.seed) == ('delta', 8, 2)
    assert (run.state, run.message) == ('failed', 'no such file: low.yaml')


def test_zero_is_a_seed(tmp_path: Path) -> None:
    """Also of a row whose name looks like another one."""
    for seed in (0, 7):
        synthetic.run(tmp_path, 'seed7', 4, seed)
    assert [run.seed for run in collect(str(tmp_path))] == [0, 7]


def test_what_needs_a_failed_run_is_blocked(tmp_path: Path) -> None:
    low = synthetic.run(tmp_path, 'low', 0, 1)
    low = low.rename(low.parent / 'seed1')
    (low / 'result.json').unlink()
    synthetic.dump(low / 'failed.json', {'message': 'the disk is full'})
    delta = synthetic.run(tmp_path, 'delta', 8, 1)
    (delta / 'result.json').unlink()
    states = {r.name: (r.state, r.message) for r in collect(str(tmp_path))}
    assert states['low/seed1'] == ('failed', 'the disk is full')
    assert states['delta/n8_seed1'] == (
        'blocked',
        'needs low/seed1, which failed',
    )


def test_a_run_that_waits(out: Path) -> None:
    (out / 'runs/delta/n8_seed2/result.json').unlink()
    assert one(out, 'delta/n8_seed2').state == 'waiting'
    assert aggregate(collect(str(out)), 'force', 'mae')['delta', 8].n == 2


def test_a_broken_result_is_none(out: Path) -> None:
    path = out / 'runs/delta/n8_seed2/result.json'
    path.write_text(path.read_text()[:50])
    run = one(out, 'delta/n8_seed2')
    assert run.state == 'waiting'  # the study's command does it again
    assert run.labels == 8


def test_an_error_that_is_no_number_counts_nowhere(tmp_path: Path) -> None:
    bad = {
        'energy': {'mae': math.nan, 'rmse': math.nan, 'n': 18},
        'force': {'mae': 20.0, 'rmse': 30.0, 'n': 18},
    }
    synthetic.run(tmp_path, 'delta', 8, 1, errors=bad)
    (run,) = collect(str(tmp_path))
    assert (run.state, run.went_wrong) == ('done', True)
    assert run.message == 'the energy MAE is not a finite number'
    for quantity in ('energy', 'force'):
        assert aggregate([run], quantity, 'mae') == {}


def test_states_are_those_that_the_study_shows(out: Path) -> None:
    runs = out / 'runs'
    (runs / 'delta/n4_seed1/result.json').write_text('{')
    (runs / 'delta/n8_seed1/result.json').unlink()
    nan = {'energy': {'mae': math.nan, 'rmse': 1.0, 'n': 18}}
    synthetic.run(out, 'delta', 16, 1, errors=nan)
    interrupted = runs / 'high_only/n4_seed1'
    (interrupted / 'result.json').unlink()
    (interrupted / status.RUN_LOCK).touch()
    found = collect(str(out))
    shown = status.read_all(replace(r, needs=()) for r in found)
    assert {r.name: r.state for r in found} == {n: s.state for n, s in shown.items()}
    assert len({r.state for r in found}) > 2


def test_the_low_model_is_no_row_of_its_own(tmp_path: Path) -> None:
    measured = {'energy': {'mae': 900.0, 'rmse': 901.0, 'n': 18}}
    synthetic.run(tmp_path, 'low', 0, 1, errors=measured)
    synthetic.run(tmp_path, 'delta', 8, 1)
    found = collect(str(tmp_path))
    assert {r.row for r in found} == {'low', 'delta'}
    assert list(aggregate(found, 'energy', 'mae')) == [('delta', 8)]


def test_variants_stand_where_the_study_has_them(tmp_path: Path) -> None:
    for row in ('a_variant', 'multi_fidelity', 'high_only', 'not_named'):
        synthetic.run(tmp_path, row, 8, 1)
    planned = ('multi_fidelity', 'high_only', 'a_variant')
    rows = {row: {'method': 'high_only', 'set': {}} for row in planned}
    synthetic.dump(tmp_path / 'study.json', {'rows': rows})
    found = [r.row for r in collect(str(tmp_path))]
    assert found == ['multi_fidelity', 'high_only', 'a_variant', 'not_named']


def test_rows_that_are_not_planned_now_come_after(tmp_path: Path) -> None:
    for row in ('delta', 'high_only', 'multi_fidelity', 'transfer', 'a_variant'):
        synthetic.run(tmp_path, row, 8, 1)
    rows = {'multi_fidelity': {'method': 'multi_fidelity', 'set': {}}}
    synthetic.dump(tmp_path / 'study.json', {'rows': rows})
    assert [r.row for r in collect(str(tmp_path))] == [
        'multi_fidelity',
        'high_only',
        'transfer',
        'delta',
        'a_variant',
    ]


def test_rows_of_a_study_as_it_is_planned(tmp_path: Path) -> None:
    changes = {
        'wide': {'model': {'channel': 8}},
        'slow': {'train': {'optim_param': {'lr': 0.003}}},
    }
    variants = {
        name: {'method': 'high_only', 'set': change}
        for name, change in changes.items()
    }
    path = write_study(tmp_path, methods=['high_only'], variants=variants)
    plan(read_study(path), tmp_path / 'study')
    found = collect(str(tmp_path / 'study'))
    assert [r.row for r in found] == ['high_only', 'wide', 'slow']
    assert {r.method for r in found} == {'high_only'}


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'is not the folder of a study.*\(-o\)'):
        collect(str(tmp_path))


def test_csv(out: Path) -> None:
    path = out / 'results.csv'
    found = collect(str(out))
    run_results.write(found, str(path))
    with open(path, encoding='utf-8', newline='') as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 60
    named = {line['folder']: line for line in lines}
    done = named['runs/delta/n8_seed1']
    assert (done['row'], done['method'], done['labels']) == ('delta', 'delta', '8')
    assert (done['seed'], done['parameters']) == ('1', '82416')
    assert (done['steps'], done['steps_by_stage']) == ('3000', '1500 + 1500')
    assert (done['test_structures'], done['test_low_labelled']) == ('18', '6')
    assert (done['energy_n'], done['force_n'], done['stress_n']) == ('18', '18', '')
    assert (done['inferred'], done['inferred_test']) == ('', '')  # not told
    mae = one(out, 'delta/n8_seed1').error('energy', 'mae')
    assert float(done['energy_MAE (meV/atom)']) == pytest.approx(mae, rel=1e-5)
    assert done['stress_RMSE (kbar)'] == ''
    failed = named['runs/transfer/n8_seed2']
    assert failed['state'] == 'failed'
    assert 'memory' in failed['message']
    assert failed['force_MAE (meV/Å)'] == ''


def test_inferred_labels_are_in_the_csv(tmp_path: Path) -> None:
    synthetic.run(tmp_path, 'multi_fidelity', 8, 1, inferred=120, inferred_test=6)
    run_results.write(collect(str(tmp_path)), str(tmp_path / 'results.csv'))
    with open(tmp_path / 'results.csv', encoding='utf-8', newline='') as stream:
        (line,) = csv.DictReader(stream)
    assert (line['inferred'], line['inferred_test']) == ('120', '6')
