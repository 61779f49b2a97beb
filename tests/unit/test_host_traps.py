"""What the host would do without a word is said; each word is one of its traps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sevennet_mf.host_traps import warnings_for


def modal(**train: Any) -> dict[str, Any]:
    """A multi-modal YAML of the host that steps into no trap."""
    files = [{'file': 'a.extxyz'}]
    return {
        'model': {},
        'train': {'use_modality': True, **train},
        'data': {
            'load_trainset_path': [
                {'data_modality': 'pbe', 'file_list': files},
                {'data_modality': 'r2scan', 'file_list': files},
            ],
            'load_validset_path': [{'data_modality': 'pbe', 'file_list': files}],
        },
    }


def test_a_yaml_without_traps_is_left_alone(tmp_path: Path) -> None:
    assert warnings_for(modal(), str(tmp_path)) == []


def renamed_validation(yaml: dict[str, Any]) -> None:
    data = yaml['data']
    data['load_pbe_validset_path'] = data.pop('load_validset_path')


def weight_without_switch(yaml: dict[str, Any]) -> None:
    yaml['data']['load_trainset_path'][0]['data_weight'] = {'energy': 2.0}


def weight_with_switch(yaml: dict[str, Any]) -> None:
    weight_without_switch(yaml)
    yaml['train']['use_weight'] = True


def energy_key(yaml: dict[str, Any]) -> None:
    file = {'file': 'a.extxyz', 'energy_key': 'E'}
    yaml['data']['load_trainset_path'][1]['file_list'] = [file]


def reference_energies(yaml: dict[str, Any]) -> None:
    yaml['data']['shift'] = 'elemwise_reference_energies'


def one_modality(yaml: dict[str, Any]) -> None:
    for entries in yaml['data'].values():
        for entry in entries:
            entry['data_modality'] = 'pbe'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (renamed_validation, 'no set is named exactly load_validset_path'),
        (weight_without_switch, 'data_weight is ignored without train.use_weight'),
        (weight_with_switch, None),
        (energy_key, 'where a file has labels that ASE reads'),
        (reference_energies, 'elements that are missing from a modality the en'),
        (one_modality, 'crashes with a single modality (pbe)'),
    ],
)
def test_each_trap_has_its_line(
    change: Any, words: str | None, tmp_path: Path
) -> None:
    yaml = modal()
    change(yaml)
    lines = warnings_for(yaml, str(tmp_path))
    assert [words in line for line in lines] == ([True] if words else [])
    assert all('`fidelity` blocks' in line for line in lines)


def test_processed_data_of_an_earlier_run_are_named(tmp_path: Path) -> None:
    folder = tmp_path / 'sevenn_data'
    folder.mkdir()
    (folder / 'trainset_pbe.pt').touch()
    [line] = warnings_for(modal(), str(tmp_path))
    assert f'{folder / "trainset_pbe.pt"} exists' in line


@pytest.mark.parametrize(
    'yaml',
    [
        {},
        {'train': None, 'data': None},
        {'train': 'text', 'data': ['list']},
        {'train': {'use_modality': True}, 'data': {'load_trainset_path': 'a.xyz'}},
        {'train': {'use_modality': False}, 'data': {'shift': 1.0}},
    ],
)
def test_any_yaml_can_be_asked(yaml: dict[str, Any], tmp_path: Path) -> None:
    lines = warnings_for(yaml, str(tmp_path))
    assert all('load_validset_path' in line for line in lines)
