"""YAML files: every key once, wherever one is read."""

from pathlib import Path

import pytest
import sevenn.parse_input
import yaml
from helpers import registered, sections

from sevennet_mf.cli import main
from sevennet_mf.config import yaml_file
from sevennet_mf.errors import UserError
from sevennet_mf.host import _read_config_yaml


def load(path: Path, text: str) -> object:
    path.write_text(text, encoding='utf-8')
    return yaml_file.load(str(path))


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('train: {}\nmodel: {}\ntrain: {}\n', 'the section train .*line 1 .*line 3'),
        ('a:\n  b: 1\n\n  b: 1\n', r'a\.b is given twice, in line 2 and in line 4;'),
        ('a: [{b: 1}, {c: 1, b: 2, c: 3}]', r'a\[1\]\.c .*both times in line 1'),
        ('a:\n  b: {c: {d: 1,\n    d: 2}}', r'a\.b\.c\.d .*in line 2 and in line 3'),
        ('a: 1\n"a": 2\n', 'the section a .*line 1 .*line 2'),
        ('x: {1: a, 1.0: b}', r'x\.1\.0 is given twice'),
        ('b: &b {c: 1}\nd: {<<: *b, <<: *b}', 'd.<< is given twice'),
    ],
)
def test_a_key_that_stands_twice(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / 'a.yaml'
    with pytest.raises(yaml_file.RepeatedKey, match=told) as caught:
        load(path, text)
    assert str(caught.value).startswith(f'{path}: ')
    assert str(caught.value).endswith('Merge the two into one.')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'text',
    [
        'a: {b: 1}\nc: {b: 2}\n',
        'a: [{b: 1}, {b: 2}]',
        'a: &x {b: 1}\nc: {<<: *x, b: 2}\n',  # what is merged gives way
        'a: &x {b: 1}\nc: &y {d: 1}\ne: {<<: [*x, *y]}\n',
        'a: {B: 1, b: 2}',
    ],
)
def test_what_stands_once(text: str, tmp_path: Path) -> None:
    assert load(tmp_path / 'a.yaml', text) == yaml.safe_load(text)


def test_an_anchor_within_itself(tmp_path: Path) -> None:
    found = load(tmp_path / 'a.yaml', 'a: &x\n  b: *x\n')
    assert isinstance(found, dict)
    assert found['a']['b'] is found['a']


def test_a_value_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='is not valid YAML: .*out of range'):
        load(tmp_path / 'a.yaml', 'a: 2026-02-31\n')


@pytest.mark.parametrize(
    'command',
    ['train', 'inspect', 'study', 'evaluate 7net-0'],
)
def test_every_command_says_so(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'input.yaml'
    path.write_text('model: {}\ntrain: {epoch: 300}\ntrain: {epoch: 1}\n')
    name, *more = command.split()
    output = ['-o', str(tmp_path / 'o')] if name in ('study', 'evaluate') else []
    assert main([name, *more, str(path), *output]) == 2
    said = capsys.readouterr().err
    assert 'the section train is given twice, in line 2 and in line 3' in said


def test_the_yaml_that_a_study_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'input.yaml').write_text('train: {}\ntrain: {}\n')
    study = tmp_path / 'study.yaml'
    study.write_text(
        'study: {input_yaml: input.yaml, methods: [high_only], labels: [2], '
        'test: [{file: a.extxyz, fidelity: r2scan}]}'
    )
    output = str(tmp_path / 'o')
    assert main(['study', str(study), '-o', output, '--dry_run']) == 2
    said = capsys.readouterr().err
    assert 'input.yaml: the section train is given twice' in said


def test_the_hosts_program_with_a_fidelity(tmp_path: Path) -> None:
    """Without one its own reading stays as it is: it keeps the last."""
    twice = 'model: {}\n' + yaml.safe_dump(sections())
    path = tmp_path / 'input.yaml'
    path.write_text(twice)
    with registered(), pytest.raises(UserError, match='model is given twice'):
        sevenn.parse_input.read_config_yaml(str(path))
    path.write_text('train: {epoch: 1}\ntrain: {epoch: 2}\n')
    read = _read_config_yaml(lambda filename, separately: yaml.safe_load(
        Path(filename).read_text(encoding='utf-8')
    ))
    assert read(str(path))['train']['epoch'] == 2
