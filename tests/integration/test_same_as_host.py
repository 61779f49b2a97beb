"""Without a fidelity the host's numbers, digit for digit (point 2).

"The same" means: a fresh process each, the same number of threads, deterministic
algorithms.
"""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import DATA, MODEL, run, snapshot, write_yaml

pytestmark = pytest.mark.slow

# both programs as their console scripts start them
DETERMINISTIC = (
    'import sys, torch\n'
    'torch.use_deterministic_algorithms(True)\n'
    'from {module} import main\n'
    'sys.exit(main())\n'
)
OURS = [sys.executable, '-c', DETERMINISTIC.format(module='sevennet_mf.cli')]
HOST = [sys.executable, '-c', DETERMINISTIC.format(module='sevenn.main.sevenn')]


def plain() -> dict[str, Any]:
    """A host YAML of a single fidelity."""
    return {
        'model': copy.deepcopy(MODEL),
        'train': {
            'random_seed': 1,
            'epoch': 2,
            'optim_param': {'lr': 0.01},
            'scheduler': 'exponentiallr',
            'scheduler_param': {'gamma': 0.9},
        },
        'data': {
            'batch_size': 4,
            'data_format_args': {'index': ':8'},
            'load_trainset_path': [str(DATA / 'ingan/pbe_train.extxyz')],
            'load_validset_path': [str(DATA / 'ingan/pbe_valid.extxyz')],
        },
    }


def modal() -> dict[str, Any]:
    """The host's own multi-modal training."""
    yaml = plain()
    yaml['model'].update(
        use_modal_self_inter_intro=True,
        use_modal_self_inter_outro=True,
        use_modal_output_block=True,
    )
    yaml['train'].update(use_modality=True)
    del yaml['data']['data_format_args']  # the host cannot, with several
    weight = {'energy': 2.0, 'force': 1.0, 'stress': 0.0}
    yaml['data'].update(
        use_modal_wise_shift=True,
        load_trainset_path=[
            of('pbe', 'ingan/pbe_train.extxyz'),
            of('other', 'ingan/mixing_pbe.extxyz', data_weight=weight),
        ],
        load_validset_path=[of('pbe', 'ingan/pbe_valid.extxyz')],
    )
    return yaml


def of(modality: str, file: str, **more: Any) -> dict[str, Any]:
    """One entry of a `load_*_path`, as the host writes several modalities."""
    files = [{'file': str(DATA / file), 'index': ':8'}]
    return {'data_modality': modality, 'file_list': files, **more}


TRAPS = {
    'plain': [],
    'modal': ['data_weight is ignored without train.use_weight'],
}


@pytest.mark.parametrize('yaml', [plain, modal], ids=['plain', 'modal'])
def test_lc_csv_is_the_hosts(yaml: Any, tmp_path: Path) -> None:
    write_yaml(tmp_path / 'input.yaml', yaml())
    curves, said = {}, {}
    for name, command in (('ours', OURS), ('host', HOST)):
        args = ('train', 'input.yaml', '-w', name)
        result = run(*args, command=command, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        curves[name] = (tmp_path / name / 'lc.csv').read_bytes()
        said[name] = result.stderr
    assert len(curves['host'].splitlines()) == 3
    assert curves['ours'] == curves['host']
    ours, host = [set(snapshot(tmp_path / name)) for name in curves]
    assert ours == host
    # what the host leaves unsaid is said, and nothing else
    own = re.findall('sevennet-mf: warning: (.*)', said['ours'])
    traps = [line for line in own if 'sevennet_mf do not have' in line]
    assert len(traps) == len(TRAPS[yaml.__name__])
    for line, words in zip(traps, TRAPS[yaml.__name__], strict=True):
        assert words in line
