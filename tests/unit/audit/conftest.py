"""An audit of structures that are written for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase.io import write

from sevennet_mf.audit.inspect import Audit, inspect


@pytest.fixture
def audit(tmp_path: Path) -> Callable[..., Audit]:
    """Audit of frames by fidelity; `more` goes into the YAML's sections."""

    def entries(name: str, frames: dict[str, Any]) -> list[dict[str, str]]:
        listed = []
        for fidelity, parts in frames.items():
            groups = parts if parts and isinstance(parts[0], list) else [parts]
            for k, group in enumerate(groups):
                path = tmp_path / f'{name}_{fidelity}_{k}.extxyz'
                write(path, group, format='extxyz')
                listed.append({'file': str(path), 'fidelity': fidelity})
        return listed

    def run(train: dict[str, Any], valid: Any = None, **more: Any) -> Audit:
        data = {'load_trainset_path': entries('train', train)}
        if valid:
            data['load_validset_path'] = entries('valid', valid)
        sections: dict[str, Any] = {'model': {'cutoff': 4.0}, 'data': data}
        for name, block in more.items():
            sections.setdefault(name, {}).update(block)
        path = tmp_path / 'input.yaml'
        path.write_text(yaml.safe_dump(sections))
        return inspect(str(path))

    return run
