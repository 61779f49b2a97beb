"""Who labels, from what the command line says."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import build, model_config, save_checkpoint
from label_helpers import ODD

from sevennet_mf.errors import UserError
from sevennet_mf.label.calculators import imported, made
from sevennet_mf.label.teacher import arguments_of, record_of, teacher_of


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """By number of fidelities."""
    folder = tmp_path_factory.mktemp('checkpoints')
    found = {}
    for n, names in ((1, ('pbe',)), (2, ('pbe', 'r2scan'))):
        config = model_config(names=names)
        path = save_checkpoint(folder / f'{n}.pth', build(config), config)
        found[n] = str(path)
    return found


def test_all_fidelities_of_a_checkpoint(checkpoints: dict[int, str]) -> None:
    teacher = teacher_of(checkpoints[2])
    assert teacher.names == {'pbe': 'pbe', 'r2scan': 'r2scan'}
    assert not teacher.is_calculator


def test_a_fidelity_may_get_another_name(checkpoints: dict[int, str]) -> None:
    assert teacher_of(checkpoints[2], ['low=pbe', 'r2scan']).names == {
        'low': 'pbe',
        'r2scan': 'r2scan',
    }
    # of a model of one fidelity there is nothing to choose
    assert set(teacher_of(checkpoints[1], ['x']).names) == {'x'}


def test_a_calculator_is_imported_from_a_module_and_a_file() -> None:
    from ase.calculators.emt import EMT

    assert imported('ase.calculators.emt:EMT') is EMT
    assert imported(f'{ODD}:make').__name__ == 'make'
    assert imported(f'{ODD}:Odd.calculate').__name__ == 'calculate'


def test_a_module_of_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'my_own_dft.py').write_text(
        'from ase.calculators.emt import EMT\ndef make(): return EMT()\n'
    )
    monkeypatch.chdir(tmp_path)
    assert made('my_own_dft:make', {}).name == 'emt'


@pytest.mark.parametrize(
    ('told', 'names', 'words'),
    [
        ('no_such_module:X', ['a'], 'no_such_module cannot be imported: ModuleNot'),
        ('ase.calculators.emt:EMTT', ['a'], "no 'EMTT'. Did you mean 'EMT'"),
        (f'{ODD}:number', ['a'], 'neither a class nor a function'),
        ('no_such_file.py:make', ['a'], 'no such file: no_such_file.py'),
        (f'{ODD}:make', None, 'one level of theory. Name it with -f'),
        (f'{ODD}:make', ['a', 'b'], 'one level of theory'),
        (f'{ODD}:make', ['a/b'], 'letters, digits'),
        ('7net-mf', ['a'], 'A calculator is given as module:name'),
        ('7net-0', None, 'does not name its level of theory'),
        ('7net-mf-0', ['pbe'], "got 'pbe'. Did you mean 'PBE'"),
        ('7net-mf-0', ['x=PBE', 'x=R2SCAN'], 'x is given twice'),
    ],
)
def test_what_cannot_label(
    told: str, names: list[str] | None, words: str
) -> None:
    with pytest.raises(UserError, match=words.replace('(', '.')):
        teacher_of(told, names)


def test_arguments_of_a_checkpoint() -> None:
    with pytest.raises(UserError, match="got 'devise'. Did you mean 'device'"):
        teacher_of('7net-mf-0', None, {'devise': 'cpu'})


def test_a_calculator_that_cannot_be_made() -> None:
    with pytest.raises(UserError, match='TypeError: .*xc.*Correct --arguments'):
        made(f'{ODD}:make', {'xc': 'PBE'})
    with pytest.raises(UserError, match='returns a int, not a calculator'):
        made(f'{ODD}:no_calculator', {})


def test_arguments_are_yaml_json_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / 'a.yaml'
    path.write_text('{xc: PBE, encut: 5e2}')
    wanted = {'xc': 'PBE', 'encut': 500.0}
    assert arguments_of(str(path)) == wanted
    assert arguments_of('{xc: PBE, encut: 5e2}') == wanted
    assert arguments_of('{"xc": "PBE", "encut": 5e2}') == wanted
    assert arguments_of(None) == {}


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('[1, 2]', 'must be keywords with their values'),
        ('PBE', 'must be keywords'),
        ('{a: 1', '--arguments is not valid YAML'),
        ('{a: 1, a: 2}', 'a is given twice'),
        ('none.yaml', 'no such file: none.yaml'),
    ],
)
def test_arguments_that_are_none(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        arguments_of(text)


def test_the_record_of_a_checkpoint_is_its_content(
    checkpoints: dict[int, str], tmp_path: Path
) -> None:
    copy = tmp_path / 'copy.pth'
    copy.write_bytes(Path(checkpoints[2]).read_bytes())
    records = [
        record_of(teacher_of(path, ['a=pbe']), 'a')
        for path in (str(copy), checkpoints[2])
    ]
    assert records[0]['sha256'] == records[1]['sha256']
    other = record_of(teacher_of(checkpoints[1], ['a']), 'a')
    assert other['sha256'] != records[0]['sha256']


@pytest.mark.parametrize('name', ['total', 'Common'])
def test_a_name_that_cannot_be_trained_on(name: str) -> None:
    with pytest.raises(UserError, match=f"fidelity '{name}': .*are reserved"):
        teacher_of('ase.calculators.emt:EMT', [name])
