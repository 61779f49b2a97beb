"""`sevennet-mf extend`: a checkpoint with one fidelity more."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from helpers import structures
from pretrained_helpers import (
    OFFSETS,
    answers_of,
    assert_same,
    extending,
    labelled,
    mixed,
    prepared,
    pretrained,
    trained_in,
)

from sevennet_mf import cli, keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import load_model
from sevennet_mf.train.continuing.extend_file import extend_file


def test_old_predicts_what_it_did_and_new_fits_its_labels(tmp_path: Path) -> None:
    path = pretrained(tmp_path)
    atoms = mixed(6)
    labels = labelled(tmp_path / 'l.extxyz', atoms, path, offsets=OFFSETS)
    output = tmp_path / 'extended.pth'
    found = extend_file(
        str(path), 'hse', str(output), files=[labels], known_as='pbe'
    )
    assert found is not None
    loaded = load_model(str(output))
    assert loaded.fidelities == ('pbe', 'hse')
    assert_same(answers_of(loaded, 'pbe'), answers_of(path, None))
    before = answers_of(path, None, atoms)
    after = answers_of(loaded, 'hse', atoms)
    more = [sum(OFFSETS[s] for s in a.symbols) for a in atoms]
    n_atoms = np.array([len(a) for a in atoms])
    gap = (after.energy - before.energy - more) / n_atoms
    np.testing.assert_allclose(gap, 0.0, atol=2e-2)  # the prior holds back a little
    np.testing.assert_allclose(after.forces, before.forces, atol=5e-6)
    assert loaded.provenance['extended'] == {'from': path.name, 'start': 'pbe'}


def test_energies_may_have_a_unit_of_their_own(tmp_path: Path) -> None:
    path, output = pretrained(tmp_path), tmp_path / 'extended.pth'
    labels = labelled(tmp_path / 'l.extxyz', mixed(6), path, offsets=OFFSETS)
    extend_file(str(path), 'hse', str(output), files=[labels], known_as='pbe')
    frames = ase.io.read(labels, ':')
    for atoms in frames:
        per_atom = atoms.get_potential_energy() / len(atoms)
        atoms.calc = None
        atoms.info['e'] = per_atom / units.Hartree
    other, file = tmp_path / 'other.pth', tmp_path / 'hartree.extxyz'
    ase.io.write(file, frames)
    words = ['extend', path, file, '-f', 'hse', '--known_as', 'pbe', '-o', other]
    words += ['--energy_key', 'e', '--energy_unit', 'Hartree/atom']
    assert cli.main([str(word) for word in words]) == cli.DONE
    found, wanted = (answers_of(load_model(str(p)), 'hse') for p in (other, output))
    np.testing.assert_allclose(found.energy, wanted.energy, atol=1e-5)


def test_a_third_fidelity_starts_from_the_one_that_is_named(tmp_path: Path) -> None:
    path = pretrained(tmp_path, ('pbe', 'scan'), 'lora')
    output = tmp_path / 'extended.pth'
    extend_file(str(path), 'hse', str(output), start_from='scan')
    loaded = load_model(str(output))
    for name, source in (('pbe', 'pbe'), ('scan', 'scan'), ('hse', 'scan')):
        assert_same(answers_of(loaded, name), answers_of(path, source))


def test_training_goes_on_from_it(tmp_path: Path) -> None:
    path = pretrained(tmp_path)
    labels = labelled(tmp_path / 'l.extxyz', structures(4), path, offsets=OFFSETS)
    output = tmp_path / 'extended.pth'
    extend_file(str(path), 'hse', str(output), files=[labels], known_as='pbe')
    sections = extending(output, labels, fidelity='hse', target='hse')
    sections['train']['continue'].update(
        reset_optimizer=True, reset_scheduler=True, reset_epoch=True
    )
    sections['data']['fidelity'] = {'order': ['pbe', 'hse']}
    folder = trained_in(tmp_path / 'run', sections)
    assert_same(
        answers_of(folder / 'checkpoint_0.pth', 'hse'), answers_of(output, 'hse')
    )


def test_notes_go_by_the_new_name(tmp_path: Path) -> None:
    """On training as well, beside those of the YAML."""
    path = pretrained(tmp_path)
    content = checkpoint_file.load(str(path))
    note = {'pbe': {'functional': 'PBE'}}
    content['config'][keys.PROVENANCE] = {
        'fidelities': ['pbe'],
        'about': note,
        'data': {'trainset': {'pbe': {'structures': 3}}},
        'best': {'epoch': 7},
        'drift': {},
    }
    checkpoint_file.save(str(path), content)
    output = tmp_path / 'extended.pth'
    extend_file(str(path), 'hse', str(output), known_as='omat')
    wanted = {'omat': {'functional': 'PBE'}}
    found = load_model(str(output)).provenance
    assert found['about'] == wanted
    assert found['data'] == {'trainset': {'omat': {'structures': 3}}}
    assert not {'best', 'drift'} & set(found)  # of another training
    labels = labelled(tmp_path / 'l.extxyz', structures(4), path)
    sections = extending(path, labels, fidelity='hse', known_as='omat')
    own = {'hse': {'functional': 'HSE'}}
    sections['data']['fidelity'] = {'about': own}
    config, _, _ = prepared(tmp_path, sections)
    assert config[keys.PROVENANCE]['about'] == {**wanted, **own}


def test_errors(tmp_path: Path) -> None:
    path = pretrained(tmp_path, ('pbe', 'scan'))
    plain = pretrained(tmp_path)
    assert plain == path  # the later one is there
    two = pretrained(_folder(tmp_path / 'two'), ('pbe', 'scan'))
    lora = pretrained(_folder(tmp_path / 'lora'), ('pbe', 'scan'), 'lora')
    output = tmp_path / 'x.pth'
    cases = [
        (two, {'added': 'pbe'}, r"'pbe' already exists in .*\['pbe', 'scan'\]"),
        (two, {'added': 'PBE'}, r"'PBE' differs from 'pbe' of .* only in case"),
        (plain, {'added': 'hse'}, r'--known_as is missing: .* has one fidelity'),
        (two, {'added': 'hse', 'known_as': 'x'}, r"^--known_as: 'x' is for a ch"),
        (two, {'added': 'hse', 'start_from': 'x'}, r'^--start_from must be one o'),
        (two, {'added': 'total'}, r"^--fidelity: 'total' is reserved"),
        (lora, {'added': 'hse', 'model': {'encoding': 'gain'}}, r'^--encoding: '),
        (two, {'added': 'a b'}, r'a fidelity name is a quoted word'),
        (two, {'added': 'hse', 'files': ['no.extxyz']}, r'no such file: no\.extxyz'),
    ]
    for file, given, words in cases:
        with pytest.raises(UserError, match=words):
            extend_file(str(file), output=str(output), **given)
        assert not output.exists()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_the_command_says_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pretrained(tmp_path)
    labels = labelled(tmp_path / 'l.extxyz', mixed(6), path, offsets=OFFSETS)
    output = tmp_path / 'out.pth'
    words = ['extend', str(path), labels, '-f', 'hse', '--known_as', 'pbe']
    assert cli.main([*words, '-o', str(output), '--device', 'cpu']) == cli.DONE
    said = capsys.readouterr().out
    assert f'{output}: {path} with the fidelity hse' in said.replace('\n', ' ')
    assert 'In: ' in said
    assert cli.main([*words[:2], *words[3:5], '-o', str(output)]) == cli.BAD_INPUT
