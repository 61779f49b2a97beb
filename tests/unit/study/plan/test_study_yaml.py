"""What a study.yaml may say, and the line that a wrong one is answered with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from commandline import write_yaml
from study_inputs import write_study

from sevennet_mf.errors import UserError
from sevennet_mf.study.plan.study_yaml import METHODS, read_study

VARIANT = {'method': 'multi_fidelity', 'set': {'model': {'channel': 8}}}


def test_defaults(tmp_path: Path) -> None:
    path = write_yaml(
        tmp_path / 'study.yaml',
        {
            'study': {
                'input_yaml': '../in.yaml',
                'split': {'by': 'random', 'test': 0.2},
            }
        },
    )
    study = read_study(path)
    assert study.methods == list(METHODS)
    assert (study.labels, study.seeds, study.steps) == (['all'], [1, 2, 3], None)
    assert (study.low_share, study.checkpoint) == (0.5, 'best')
    assert study.run.parallel == 'auto'
    assert (study.run.threads, study.run.slurm) == (1, None)


def test_paths_count_from_the_folder_of_the_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {'file': ['../a.extxyz', 'b.extxyz'], 'force_key': None}
    write_study(tmp_path / 'inner', test=[entry, 'c.extxyz'])
    monkeypatch.chdir(tmp_path)
    study = read_study('inner/study.yaml')
    assert study.input_yaml == str(tmp_path / 'inner' / 'input.yaml')
    assert study.test is not None
    wanted = [str(tmp_path / 'a.extxyz'), str(tmp_path / 'inner' / 'b.extxyz')]
    # what is not written must stay so: `force_key: null` means something
    assert study.test[0].model_dump(exclude_unset=True) == {
        'file': wanted,
        'force_key': None,
    }
    assert study.test[1].file == str(tmp_path / 'inner' / 'c.extxyz')


def test_a_number_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path, labels=[4, 8, 4, 'all'], seeds=[2, 2]))
    assert (study.labels, study.seeds) == ([4, 8, 'all'], [2])


@pytest.mark.parametrize(
    ('study', 'words'),
    [
        (
            {'metods': ['delta']},
            "study.metods is not a known key. Did you mean 'methods'",
        ),
        (
            {'methods': ['tranfer']},
            "study.methods must be .* Did you mean 'transfer'",
        ),
        ({'methods': []}, 'study.methods: must not be empty'),
        ({'labels': [0]}, r"study.labels.0: must be a whole number.*'all'.*got 0"),
        ({'labels': ['some']}, "study.labels.0: .* or 'all', got 'some'"),
        ({'seeds': [-1]}, 'study.seeds.0: .*got -1'),
        ({'steps': 0}, 'study.steps: .*got 0'),
        ({'low_share': 1.0}, 'study.low_share: .*less than 1, got 1.0'),
        ({'checkpoint': 'bets'}, "study.checkpoint: .*Did you mean 'best'"),
        (
            {'split': {'by': 'random', 'test': 0.2}, 'test': ['x.extxyz']},
            'both define',
        ),
        ({'split': None, 'test': None}, r'study has no test set. Write `test: \['),
        ({'split': {'by': 'rndom', 'test': 0.2}}, "study.split.by: .*'random'"),
        (
            {'split': {'by': 'random', 'tset': 0.2}},
            "split.tset .*Did you mean 'test'",
        ),
        ({'split': {'by': 'random'}}, 'by: random needs test, but none is given'),
        ({'split': {'by': 'random', 'test': 2}}, 'study.split.test: .*got 2'),
        (
            {'split': {'by': 'element', 'test': 0.2, 'element': ['In']}},
            'study.split.test has no effect with by: element, which uses element',
        ),
        (
            {'split': {'by': 'composition', 'test': 0.2, 'train': ['GaN']}},
            'by: composition needs train or test, but both are given',
        ),
        ({'test': [{'fidelity': 'r2scan'}]}, r'study.test\[0\].file is missing'),
        ({'run': {'thread': 2}}, "study.run.thread .*Did you mean 'threads'"),
        ({'variants': {'delta': VARIANT}}, "'delta' is the name of a method"),
        ({'variants': {'low_1': VARIANT}}, "'low_1' is the name of a method"),
        ({'variants': {'a/b': VARIANT}}, "'a/b' is used as the name of a folder"),
        (
            {'variants': {'x': {**VARIANT, 'method': 'multi_fidelty'}}},
            "study.variants.x.method .*Did you mean 'multi_fidelity'",
        ),
        (
            {'variants': {'x': {**VARIANT, 'sets': {}}}},
            "study.variants.x.sets .*Did you mean 'set'",
        ),
        (
            {'variants': {'x': {**VARIANT, 'set': {'train': {'epoch': 3}}}}},
            'study.variants.x.set: train.epoch must be the same for all rows',
        ),
        (
            {'variants': {'x': {**VARIANT, 'set': {'data': {'load_a_path': []}}}}},
            'data.load_a_path must be the same for all rows',
        ),
        (
            {'variants': {'x': {**VARIANT, 'set': {'modle': {'channel': 3}}}}},
            "study.variants.x.set .*Did you mean 'model'",
        ),
        ({'methods': ['x'], 'variants': {'x': VARIANT}}, "'x' is a variant, which"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    study: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = write_study(tmp_path, **study)
    with pytest.raises(UserError, match=words) as caught:
        read_study(path)
    assert '\n' not in str(caught.value)


def test_another_yaml_is_told_from_a_study(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / 'a.yaml', {'model': {}, 'train': {}, 'data': {}})
    with pytest.raises(UserError, match='no block `study`.*under study.input_yaml'):
        read_study(path)
    both = {'study': {'input_yaml': 'x'}, 'modle': {}}
    path = write_yaml(tmp_path / 'b.yaml', both)
    with pytest.raises(UserError, match=re.escape("got 'modle'")):
        read_study(path)
