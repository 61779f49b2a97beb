"""`sevennet-mf init`, from its words to a YAML that training takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import published
import pytest
from ase.io import read, write
from helpers import INGAN, registered
from pretrained_helpers import pretrained

from sevennet_mf import cli
from sevennet_mf.audit.inspect import inspect
from sevennet_mf.config import inputs
from sevennet_mf.draft import make, plan, text, timing

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

    def seconds(
        sections: dict[str, Any], counts: dict[str, int], origin: Any
    ) -> float:
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
    assert 'about 5 minutes on this machine' in said
    assert 'sevennet-mf train input.yaml -w run' in said
    (sections,) = timed
    assert sections['data']['batch_size'] == 4
    written = Path('input.yaml').read_text()
    assert written.startswith(f'# sevennet-mf init {LOW} {HIGH} --hours 1\n')
    assert '# 36 structures' in written
    assert '# 13 structures' in written
    # what the audit shows is divided as the YAML says
    shown = re.search(r'validset +r2scan \(target\) +(\d+)', said)
    assert shown is not None
    held_out = inspect('input.yaml').sets[-1]
    assert (held_out.set, held_out.fidelity) == ('validset', 'r2scan')
    assert int(shown[1]) == held_out.structures > 1
    assert max(map(len, written.splitlines()[4:20])) <= 100


def test_what_is_there_stays_unless_asked(
    timed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path('input.yaml').write_text('mine')
    assert 'input.yaml already exists' in refused(capsys, LOW, HIGH)
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
    words = '--valid: .* has the level .hse., but the training files have'
    with pytest.raises(ValueError, match=words):
        cli.main(['init', LOW, HIGH, '--valid', f'hse={LOW}', '--force', '--debug'])


def under(path: str, *prefixes: str) -> str:
    """The structures of HIGH with labels under keys with a prefix only."""
    frames = read(HIGH, ':')
    for atoms in frames:
        for shift, prefix in enumerate(prefixes):
            atoms.info[f'{prefix}energy'] = atoms.get_potential_energy() + shift
            atoms.set_array(f'{prefix}forces', atoms.get_forces() + shift)
        atoms.calc = None
    write(path, frames, format='extxyz')
    return path


def test_labels_that_have_one_name_only_are_taken(
    timed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    write('pbe.extxyz', read(LOW, ':4'), format='extxyz')
    found = init('pbe.extxyz', f'r2scan={under("high.extxyz", "REF_")}')
    assert found['data']['load_trainset_path'][1] == {
        'file': 'high.extxyz',
        'fidelity': 'r2scan',
        'energy_key': 'REF_energy',
        'force_key': 'REF_forces',
    }
    said = capsys.readouterr().out
    words = 'r2scan: energy_key REF_energy, force_key REF_forces, by their names in'
    assert words in said
    assert '# The *_key names were found' in Path('input.yaml').read_text()
    assert ' unread ' not in said


def test_labels_in_doubt_are_asked_for_in_words_of_the_command(
    timed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    high = f'r2scan={under("high.extxyz", "odd_", "MACE_", "REF_")}'
    write('pbe.extxyz', read(LOW, ':4'), format='extxyz')
    # the usual name comes first, and what is named like no energy not at all
    said = refused(capsys, 'pbe.extxyz', high)
    assert 'has no structure that can be used: high.extxyz:0 has no energy.' in said
    assert '`--energy_key` with the key of its info that holds one (REF_en' in said
    keys = ['--energy_key', 'r2scan=odd_energy']
    said = refused(capsys, 'pbe.extxyz', high, *keys)
    assert 'Write `--force_key r2scan=REF_forces` or `--force_key r2scan=od' in said
    assert not Path('input.yaml').exists()
    keys += ['--force_key', 'r2scan=none']
    found = init('pbe.extxyz', high, *keys)
    entry = found['data']['load_trainset_path'][1]
    assert (entry['energy_key'], entry['force_key']) == ('odd_energy', None)
    written = Path('input.yaml').read_text()
    assert ' '.join(keys) in written.splitlines()[0]
    assert 'names were found' not in written


def test_times_are_said_in_english() -> None:
    assert text.about(0.001) == 'less than a minute'
    assert text.about(0.2) == 'about 12 minutes'
    assert text.about(3.52) == 'about 3.5 hours'


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
        (['--known_as', 'pbe'], '--known_as pbe needs a checkpoint'),
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


def test_published_forms_have_keys_of_their_own(
    timed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    frames = published.crystals(12)
    published.mptrj(Path('MPtrj_pbe.json'), frames)  # with corrected energies, too
    published.aselmdb(Path('omat_pbe.aselmdb'), frames)
    for file in ('MPtrj_pbe.json', 'omat_pbe.aselmdb'):
        data = init(file, '--force')['data']
        assert data['load_trainset_path'] == [{'file': file, 'fidelity': 'pbe'}]
        assert 'by their names' not in capsys.readouterr().out


def test_a_file_for_mace_with_several_heads(
    timed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    frames = published.crystals(8)
    published.mace(Path('all.xyz'), frames, {'N': -3.1}, ['pbe', 'r2scan'] * 4)
    data = init('all.xyz')['data']
    assert data['load_trainset_path'] == [{'file': 'all.xyz', 'format': 'mace'}]
    assert data['fidelity']['order'] == ['pbe', 'r2scan']
    said = capsys.readouterr().out
    assert 'check that pbe, r2scan is from low to high' in said
    assert '8 structures' in Path('input.yaml').read_text()
    thin = timing.thinned(timed[0], {'pbe': 4, 'r2scan': 4})
    assert 'fidelity' not in thin['data']['load_trainset_path'][0]
    error = refused(capsys, 'all.xyz', '--from', '7net-0', '--force')
    assert 'all.xyz has several levels. Split it by its heads' in error
