"""The examples of data for the paper's systems: their READMEs followed, in small."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from commandline import write_yaml
from helpers import build, host_config, model_config, registered, save_checkpoint
from label_helpers import ODD

from sevennet_mf import cli
from sevennet_mf.config import inputs
from sevennet_mf.label.calculators import imported

ROOT = Path(__file__).parents[1]
PAPER = ROOT / 'benchmarks' / 'paper'
SMALL = ['--small', '--with', f'{ODD}:Springs', '--arguments', '{}']


def script(path: Path) -> ModuleType:
    return sys.modules[imported(f'{path}:main').__module__]


def commands(example: Path) -> list[list[str]]:
    """The lines of the first block of the README, without `cd`."""
    text = (example / 'README.md').read_text(encoding='utf-8')
    block = re.search(r'```bash\n(.*?)```', text, re.DOTALL)
    assert block is not None
    return [shlex.split(line) for line in block[1].splitlines()][1:]


def follow(example: Path, folder: Path, elements: Sequence[str]) -> list[list[str]]:
    """Run the commands of the README in a folder, studies as a dry run.

    Returns:
        Those that read the results of the studies, and are left.
    """
    for path in PAPER.glob('*.yaml'):
        shutil.copy(path, folder)
    config = host_config(
        model_config(names=('PBE', 'R2SCAN'), chemical_species=[*elements])
    )
    teacher = save_checkpoint(folder / 'teacher.pth', build(config), config)
    left = []
    with registered(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for program, *words in commands(example):
            if program == 'python' and words[0].startswith('../../'):
                path = PAPER / words[0]
                small = SMALL if path.name == 'structures.py' else []
                assert script(path.resolve()).main([*words[1:], *small]) == 0
            elif program == 'python':
                left.append(words)
            else:
                words = [str(teacher) if w == '7net-mf-0' else w for w in words]
                dry = ['--dry_run'] if words[0] == 'study' else []
                assert cli.main([*words, *dry]) == cli.DONE
    return left


def train_small(folder: Path, name: str) -> Path:
    """Train a few steps with a YAML that is in a folder; return the run's folder."""
    with pytest.MonkeyPatch.context() as patch, registered():
        patch.chdir(folder)
        sections = inputs.load_yaml(name)
        inputs.from_sections(sections)  # whole, as it is shipped
        sections['model'].update(
            channel=4, lmax=1, num_convolution_layer=1, cutoff=3.5
        )
        sections['train'].update(epoch=1, per_epoch=1)
        sections['train']['fidelity']['steps_per_epoch'] = 2
        write_yaml(folder / 'small.yaml', sections)
        assert cli.main(['train', 'small.yaml', '-w', 'run']) == cli.DONE
    return folder / 'run'
