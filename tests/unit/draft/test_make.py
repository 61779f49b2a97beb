"""`sevennet-mf init`, from its words to a YAML that training takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import INGAN, registered
from pretrained_helpers import pretrained

from sevennet_mf import cli
from sevennet_mf.audit.inspect import inspect
from sevennet_mf.config import inputs
from sevennet_mf.draft import make, plan, timing

LOW, HIGH = str(INGAN / 'pbe_valid.extxyz'), str(INGAN / 'r2scan_valid.extxyz')


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with registered():
        yield


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Nothing is timed: a step takes 0.1 s. What would have been."""
    seen: list[dict[str, Any]] = []

    def seconds(sections: dict[str, Any], counts: dict[str, int]) -> float:
        seen.append(sections)
        assert counts[sections['train']['fidelity']['target']] > 0
        return 0.1

    monkeypatch.setattr(make, 'seconds_per_step', seconds)
    return seen


def init(*words: object) -> dict[str, Any]:
    """Run it; return the YAML, which training can read."""
    assert cli.main(['init', *map(str, words), '--debug']) == cli.DONE
    found = inputs.load_yaml('input.yaml')
    inputs.from_sections(found)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert cli.main(['init', *map(str, words)]) == cli.BAD_INPUT
    return capsys.readouterr().err


def test_two_files_in(
    timed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = init(LOW, HIGH)
    assert found['model'] == {
        **plan.MODEL,
        'chemical_species': ['Ga', 'In', 'N'],
    }
    assert found['train'] == {
        'random_seed': 1,
        'epoch': 30,
        'fidelity': {'target': 'r2scan', 'steps_per_epoch': 100},
    }
    assert found['data'] == {
        'batch_size': 4,
        'data_divide_ratio': 0.2,  # of 13
        'fidelity': {'order': ['pbe', 'r2scan']},
        'load_trainset_path': [
            {'file': LOW, 'fidelity': 'pbe'},
            {'file': HIGH, 'fidelity': 'r2scan'},
        ],
    }
    said = capsys.readouterr().out
    assert said.index('Structures') < said.index('input.yaml: 16 channels, 3000 ste')
    assert 'sevennet-mf train input.yaml -w run' in said
    (sections,) = timed
    assert sections['data']['batch_size'] == 4
    text = Path('input.yaml').read_text()
    assert text.startswith(f'# sevennet-mf init {LOW} {HIGH} --hours 1\n')
    assert '# 36 structures' in text
    assert '# 13 structures' in text
    # what the audit shows is divided as the YAML says
    shown = re.search(r'validset +r2scan \(target\) +(\d+)', said)
    assert shown is not None
    held_out = inspect('input.yaml').sets[-1]
    assert (held_out.set, held_out.fidelity) == ('validset', 'r2scan')
    assert int(shown[1]) == held_out.structures > 1
    assert max(map(len, text.splitlines()[4:20])) <= 100


def test_what_is_there_stays_unless_asked(
    timed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path('input.yaml').write_text('mine')
    assert 'input.yaml is there already' in refused(capsys, LOW, HIGH)
    assert Path('input.yaml').read_text() == 'mine'
    assert not timed
    init(LOW, HIGH, '--force')


def test_validation_files_of_ones_own(
    timed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    valid = f'r2scan={INGAN / "r2scan_pool.extxyz"}'
    found = init(LOW, HIGH, '--valid', valid)
    assert 'data_divide_ratio' not in found['data']
    entry = {'file': valid.removeprefix('r2scan='), 'fidelity': 'r2scan'}
    assert found['data']['load_validset_path'] == [entry]
    words = '--valid: .* is of .hse., and the training files are of'
    with pytest.raises(ValueError, match=words):
        cli.main(['init', LOW, HIGH, '--valid', f'hse={LOW}', '--force', '--debug'])


def test_from_a_checkpoint_with_labels_of_its_level(
    timed: list[dict[str, Any]], tmp_path: Path
) -> None:
    start = pretrained(tmp_path)
    found = init(LOW, HIGH, '--from', start)
    assert 'model' not in found
    assert found['train']['continue'] == {'checkpoint': str(start)}
    assert found['train']['fidelity'] == {
        'known_as': 'pbe',
        'target': 'r2scan',
        'start_from': 'pbe',
        'steps_per_epoch': 20,
        'replay': {'file': LOW, 'fidelity': 'pbe'},
    }
    listed = found['data']['load_trainset_path']
    assert listed == [{'file': HIGH, 'fidelity': 'r2scan'}]


def test_from_a_checkpoint_without(
    timed: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = pretrained(tmp_path)
    assert 'Give it one with --known_as' in refused(capsys, HIGH, '--from', start)
    found = init(HIGH, '--from', start, '--known_as', 'old')
    block = found['train']['fidelity']
    assert block['known_as'] == 'old'
    assert block['replay'] == {'self_label': {'per_structure': plan.COPIES}}


def test_from_a_checkpoint_of_several(
    timed: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = pretrained(tmp_path, ('R2SCAN', 'PBE'))
    said = refused(capsys, LOW, HIGH, '--from', start)
    assert "has the fidelity 'R2SCAN' already" in said
    found = init(LOW, f'mine={HIGH}', '--from', start)
    block = found['train']['fidelity']
    assert 'known_as' not in block
    assert block['replay'] == {'file': LOW, 'fidelity': 'PBE'}  # as it spells it


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--hours', '0'], '--hours must be greater than 0, got 0.0.'),
        (['--known_as', 'pbe'], '--known_as pbe is for a checkpoint'),
        (['--from', 'nowhere.pth'], '--from: no such file: nowhere.pth'),
    ],
)
def test_options_that_cannot_be_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, LOW, HIGH, *words)


def test_steps_are_timed_on_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, 'KEPT', 4)
    levels = make.levels_of([LOW, HIGH])
    sections = plan.from_scratch(levels, ()).sections()
    sections['model'].update(channel=2, lmax=1, num_convolution_layer=1)
    counts = {'pbe': 36, 'r2scan': 13}
    few = timing.thinned(sections, counts)
    listed = few['data']['load_trainset_path']
    assert [entry['index'] for entry in listed] == ['::9', '::3']
    assert 0 < timing.seconds_per_step(sections, counts) < 60
