"""What is wrong in an input script is one clear LAMMPS error, and never a hang."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from commandline import run
from helpers import NAMES, save_checkpoint, trained
from lammps_helpers import Result, lammps, run_lmp, write_data
from pair_models import SPECIES, Deployed, bulk, deployed, parity

from sevennet_mf.deploy.torchscript import deploy as our_deploy

TIMEOUT = 120  # seconds; a run that waits for another rank fails by it
SCRIPT = 'units {units}\nnewton {newton}\n{box}\n{pair}\nrun 0\n'
SERIAL = 'pair_style e3gnn\npair_coeff'
PARALLEL = 'pair_style e3gnn/parallel\npair_coeff'
CHECKPOINT_HINT = '`sevennet-mf deploy CHECKPOINT` writes one'


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A plain model, and beside it files that are none."""
    folder = tmp_path_factory.mktemp('plain')
    made = deployed(folder)
    (folder / 'text.pt').write_text('not a model')
    (folder / 'cut.pt').write_bytes(made.serial.read_bytes()[:20000])
    accelerated(made.serial, folder / 'flash.pt', 'flashTP')
    accelerated(made.serial, folder / 'oeq.pt', 'oeq')
    double = {'dtype': 'double'}
    rewrite(made.serial, folder / 'double.pt', double)
    rewrite(made.serial, folder / 'other.pt', {'model_type': 'something else'})
    (folder / 'odd').mkdir()
    odd = parity(folder / 'odd')  # another model of the same elements
    for k in range(3):
        source = odd if k == 1 else made
        name = f'deployed_parallel_{k}.pt'
        (folder / 'mixed').mkdir(exist_ok=True)
        shutil.copy(source.folder / name, folder / 'mixed' / name)
    return made


def accelerated(source: Path, target: Path, by: str) -> None:
    """Mark a file as deployed with an accelerator, which needs a GPU to make."""
    rewrite(source, target, {by: 'yes'})


def rewrite(source: Path, target: Path, changes: dict[str, str]) -> None:
    """Copy a deployed file with other entries in what it says about itself."""
    names = (
        'chemical_symbols_to_index cutoff num_species model_type version dtype time '
        'flashTP oeq'
    )
    extra = dict.fromkeys(names.split(), '')
    module = torch.jit.load(str(source), _extra_files=extra)
    torch.jit.save(module, str(target), _extra_files={**extra, **changes})


def fail(
    pair: str,
    model: Deployed,
    folder: Path,
    env: dict[str, str],
    ranks: int,
    units: str = 'metal',
    newton: str = 'on',
    box: str = 'read_data data.lmp',
) -> Result:
    """Run a script that must fail; FOLDER in it is where the model's files are."""
    write_data(bulk((2, 1, 1)), folder / 'data.lmp', SPECIES)
    script = SCRIPT.format(
        units=units,
        newton=newton,
        box=box,
        pair=pair.replace('FOLDER', str(model.serial.parent)),
    )
    result = run_lmp(script, folder, env, ranks, timeout=TIMEOUT)
    assert result.returncode != 0
    return result


def one_error(result: Result) -> str:
    """The error's line; there is exactly one, and it is in the log."""
    lines = [s for s in result.stdout.split('\n') if s.startswith('ERROR')]
    assert len(lines) == 1, result.stdout
    assert lines[0] in result.log
    assert 'terminate called' not in result.stderr
    return lines[0]


# what follows `pair_style e3gnn` and `pair_coeff`: what the error says
SERIAL_ERRORS = {
    '* * FOLDER/none.pt In Ga N': 'no such file ',
    '* * FOLDER/text.pt In Ga N': CHECKPOINT_HINT,
    '* * FOLDER/cut.pt In Ga N': 'is not a deployed TorchScript model',
    '* * FOLDER/checkpoint.pth In Ga N': CHECKPOINT_HINT,
    '* * FOLDER/other.pt In Ga N': 'TorchScript but not a deployed SevenNet model',
    '* * FOLDER/double.pt In Ga N': "has dtype 'double'; only 'single'",
    '* * FOLDER/flash.pt In Ga N': 'deployed with FlashTP, which this plugin',
    '* * FOLDER/oeq.pt In Ga N': 'deployed with OpenEquivariance, which this',
    '* * FOLDER/plain In Ga N': 'needs pair_style e3gnn/parallel',
    '* * 3 FOLDER/plain In Ga N': 'is for pair_style e3gnn/parallel',
    '* * FOLDER/plain/deployed_parallel_0.pt In Ga N': 'one segment of a parallel',
    '* * FOLDER/plain.pt In ga N': "has Ga In N. Did you mean 'Ga'?",
    '* * FOLDER/plain.pt In Xx N': "unknown element 'Xx'; '",
    '* * FOLDER/plain.pt In Ga': '2 elements given for 3 atom types',
    '* * FOLDER/plain.pt In Ga N N': '4 elements given for 3 atom types',
    '* * FOLDER/plain.pt In Ga NULL': 'is NULL, which only pair_style hybrid',
    '* * FOLDER/plain.pt': 'too few arguments: pair_coeff * * FILE ELEMENT',
    '1 1 FOLDER/plain.pt In Ga N': 'Pair_coeff must start with * *',
}

PARALLEL_ERRORS = {
    '* * 3 FOLDER/none In Ga N': 'no such file or folder ',
    '* * 1 FOLDER/plain.pt In Ga N': 'is a serial model; use pair_style e3gnn',
    '* * 1 FOLDER/text.pt In Ga N': CHECKPOINT_HINT,
    '* * FOLDER/plain.pt In Ga N': 'expected the number of files, got ',
    '* * 2 FOLDER/plain In Ga N': 'pair_coeff gives 2, the folder ',
    '* * 4 FOLDER/plain In Ga N': ' contains 3',
    '* * 3 FOLDER/mixed In Ga N': 'belong to different models',
    '* * 3 FOLDER/plain In Ge N': "unknown element 'Ge'; ",
    '* * 3 FOLDER/plain In Ga': '2 elements given for 3 atom types',
    '* * 3 FOLDER/plain In Ga NULL': 'is NULL, which only pair_style hybrid',
    '1 * 3 FOLDER/plain In Ga N': 'Pair_coeff must start with * *',
}


@pytest.mark.parametrize('line', SERIAL_ERRORS)
def test_serial(
    line: str, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    result = fail(f'{SERIAL} {line}', model, tmp_path, lmp_env, 1)
    assert SERIAL_ERRORS[line] in one_error(result)


@pytest.mark.parametrize('line', PARALLEL_ERRORS)
def test_parallel(
    line: str, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    result = fail(f'{PARALLEL} {line}', model, tmp_path, lmp_env, 2)
    assert PARALLEL_ERRORS[line] in one_error(result)


@pytest.mark.parametrize(
    ('order', 'words'),
    [
        ('0 1', 'wrong number of segments: 2 given, but the model has more'),
        ('1 0 2', 'are all segments given, and in order?'),
    ],
)
def test_segments_named_one_by_one(
    order: str,
    words: str,
    model: Deployed,
    tmp_path: Path,
    lmp_env: dict[str, str],
) -> None:
    files = [f'FOLDER/plain/deployed_parallel_{k}.pt' for k in order.split()]
    line = f'{PARALLEL} * * {len(files)} {" ".join(files)} In Ga N'
    assert words in one_error(fail(line, model, tmp_path, lmp_env, 2))


def test_a_file_that_only_one_rank_lacks(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    # as on a computer of several nodes: rank 1 looks for it elsewhere
    shutil.copytree(model.folder, tmp_path / 'here')
    pair = f'{PARALLEL} * * 3 here In Ga N'
    shown = one_rank_differs('mkdir away; cd away', pair, '', tmp_path, lmp_env)
    assert shown.count('ERROR') == 1
    assert "ERROR: pair_style e3gnn/parallel: no such file or folder 'here'" in shown


@pytest.mark.skipif(
    torch.version.cuda is not None, reason='its libraries alone are larger'
)
def test_memory_that_only_one_rank_lacks(
    model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    pair = model.pair('e3gnn/parallel')
    larger = 'replicate 16 20 20'
    shown = one_rank_differs('ulimit -v 1100000', pair, larger, tmp_path, lmp_env)
    assert 'ERROR on proc 1: pair_style e3gnn/parallel: ' in shown
    assert 'out of memory' in shown
    assert 'terminate called' not in shown


def one_rank_differs(
    command: str, pair: str, change: str, folder: Path, env: dict[str, str]
) -> str:
    """Run a failing script on two ranks, after a shell command on rank 1 alone.

    Returns what they wrote.
    """
    write_data(bulk((2, 1, 1)), folder / 'data.lmp', SPECIES)
    box = f'read_data {folder}/data.lmp\n{change}'
    text = SCRIPT.format(units='metal', newton='on', box=box, pair=pair)
    (folder / 'in.lmp').write_text(text)
    start = folder / 'start.sh'
    start.write_text(
        f'#!/bin/bash\nif [ "$PMI_RANK" = 1 ]; then {command}; fi\nexec "$@"\n'
    )
    start.chmod(0o755)
    found = lammps()
    mpiexec = [str(found.mpiexec), '-n', '2', str(start), str(found.binary)]
    words = ('-in', folder / 'in.lmp', '-log', 'none')
    process = run(*words, command=mpiexec, cwd=folder, env=env)
    assert process.returncode != 0
    return process.stdout + process.stderr


@pytest.mark.parametrize('ranks', [2, 4])
def test_more_than_one_rank_for_the_serial_style(
    ranks: int, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    line = f'{SERIAL} * * FOLDER/plain.pt In Ga N'
    error = one_error(fail(line, model, tmp_path, lmp_env, ranks))
    words = f'one MPI rank, but there are {ranks}; use pair_style e3gnn/parallel'
    assert words in error


@pytest.mark.parametrize('ranks', [1, 2])
@pytest.mark.parametrize(
    ('setting', 'words'),
    [
        ({'newton': 'off'}, "needs 'newton on'"),
        ({'units': 'real'}, "put 'units metal' first, not 'units real'"),
        (
            {
                'box': 'atom_modify id no\nregion all block 0 9 0 9 0 9\n'
                'create_box 3 all\ncreate_atoms 1 single 1 1 1\nmass * 1.0'
            },
            'atoms need ids',
        ),
    ],
    ids=['newton', 'units', 'ids'],
)
def test_settings_of_lammps(
    setting: dict[str, str],
    words: str,
    ranks: int,
    model: Deployed,
    tmp_path: Path,
    lmp_env: dict[str, str],
) -> None:
    line = f'{PARALLEL} * * 3 FOLDER/plain In Ga N'
    result = fail(line, model, tmp_path, lmp_env, ranks, **setting)
    assert words in one_error(result)


@pytest.mark.parametrize('style', ['e3gnn', 'e3gnn/parallel'])
def test_arguments_of_pair_style(
    style: str, model: Deployed, tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    pair = f'pair_style {style} FOLDER/plain.pt\npair_coeff * *'
    error = one_error(fail(pair, model, tmp_path, lmp_env, 1))
    assert 'pair_style takes no arguments, got ' in error
    assert 'belong in pair_coeff' in error


def test_segments_of_two_models_or_in_another_order(
    tmp_path: Path, lmp_env: dict[str, str]
) -> None:
    """Both would run, and give wrong energies."""
    model, config = trained('bias', num_convolution_layer=3)
    source = str(save_checkpoint(tmp_path / 'checkpoint.pth', model, config))
    ours = {}
    for name in NAMES:
        ours[name], _ = our_deploy(source, str(tmp_path / name), name, parallel=True)
    mixed = [ours['pbe'][0], ours['r2scan'][1], ours['pbe'][2]]
    swapped = [ours['pbe'][i] for i in (1, 0, 2)]
    for files, words in (
        (mixed, 'belong to different models'),
        (swapped, 'is segment 1 of the model, given as segment 0'),
    ):
        write_data(bulk((2, 1, 1)), tmp_path / 'data.lmp', SPECIES)
        pair = f'{PARALLEL} * * 3 {" ".join(files)} In Ga N'
        text = SCRIPT.format(
            units='metal', newton='on', box='read_data data.lmp', pair=pair
        )
        found = run_lmp(text, tmp_path, lmp_env, 2)
        assert found.returncode != 0
        assert words in found.error
