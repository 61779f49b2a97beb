"""A study of a few InGaN cells with a small model, as its user writes it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from commandline import DATA, small_yaml, write_yaml

TEST = {'file': str(DATA / 'ingan/mixing_r2scan.extxyz'), 'fidelity': 'r2scan'}


def input_yaml() -> dict[str, Any]:
    """A training YAML: 16 PBE cells, 8 of r2SCAN, of which one has both labels."""
    sections = small_yaml()
    sections['data']['load_trainset_path'][1]['index'] = ':8'
    return sections


def write_study(
    folder: Path, sections: dict[str, Any] | None = None, **study: Any
) -> str:
    """Write input.yaml and study.yaml into a folder; return the latter's path."""
    folder.mkdir(exist_ok=True)
    write_yaml(folder / 'input.yaml', copy.deepcopy(sections or input_yaml()))
    block = {
        'input_yaml': 'input.yaml',
        'methods': ['high_only'],
        'labels': [4],
        'seeds': [1],
        'steps': 2,
        **study,
    }
    if 'split' not in block:
        block.setdefault('test', [TEST])
    block = {name: value for name, value in block.items() if value is not None}
    return write_yaml(folder / 'study.yaml', {'study': block})
