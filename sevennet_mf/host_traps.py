"""What SevenNet's own multi-modal training would do silently.

A YAML with the host's modality keys takes the host's path and gives the host's
numbers; known problems there are reported, not fixed. The exception is what one
training leaves to the next in the same process.
"""

from __future__ import annotations

import glob
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LABELS = ('energy_key', 'force_key', 'stress_key')
PICKLED = ('.pt', '.sevenn_data')
HINT = 'The `fidelity` blocks of sevennet_mf do not have this limit.'


@contextmanager
def own_configuration() -> Iterator[None]:
    """Within, a training of the host leaves nothing to a later one.

    The host collects the configuration in one dictionary for the whole process: a
    set that a YAML does not name would be that of the training before.
    """
    module = importlib.import_module('sevenn.main.sevenn')
    shared: dict[str, Any] = getattr(module, 'global_config', {})
    before = dict(shared)
    try:
        yield
    finally:
        shared.clear()
        shared.update(before)


def warnings_for(sections: dict[str, Any], working_dir: str) -> list[str]:
    """Return a line for each trap that affects a multi-modal YAML of the host."""
    train, data = sections.get('train'), sections.get('data')
    if not isinstance(train, dict) or not isinstance(data, dict):
        return []
    if not train.get('use_modality'):
        return []
    lines = []
    loads = {k: v for k, v in data.items() if str(k).startswith('load_')}
    entries = [
        entry
        for value in loads.values()
        if isinstance(value, list)
        for entry in value
        if isinstance(entry, dict)
    ]
    if 'load_validset_path' not in loads:
        lines.append(
            'no set is named exactly load_validset_path: SevenNet writes no best '
            'checkpoint and passes inf to the scheduler.'
        )
    weighted = any('data_weight' in entry for entry in entries)
    if weighted and not train.get('use_weight'):
        lines.append('data_weight is ignored without train.use_weight: True.')
    files = [file for entry in entries for file in _files(entry)]
    if any(key in file for file in files for key in LABELS):
        lines.append(
            f'{", ".join(LABELS)}: where a file has labels that ASE reads, SevenNet '
            'trains on those instead.'
        )
    cached = sorted(glob.glob(os.path.join(working_dir, 'sevenn_data', '*set_*.pt')))
    if cached:
        lines.append(
            f'{cached[0]} exists: SevenNet trains on it, whatever the input files '
            'contain now.'
        )
    if str(data.get('shift')) == 'elemwise_reference_energies':
        lines.append(
            'elemwise_reference_energies gives elements that are missing from a '
            'modality the energy 0 there.'
        )
    names = {str(entry.get('data_modality')) for entry in entries}
    if len(names) == 1:
        lines.append(f'SevenNet crashes with a single modality ({names.pop()}).')
    return [f'{line} {HINT}' for line in lines]


def pickled_files(sections: dict[str, Any], working_dir: str) -> list[str]:
    """Return files of a YAML and its folder from which SevenNet would run code."""
    train = sections.get('train')
    block = train.get('continue') if isinstance(train, dict) else None
    checkpoint = block.get('checkpoint') if isinstance(block, dict) else None
    names = list(_texts(sections.get('data')))
    found = [path for name in names for path in [name, *glob.glob(name)]]
    found = [path for path in found if path.endswith(PICKLED)]
    # torch_geometric reads more there than the sets themselves
    found += glob.glob(os.path.join(glob.escape(working_dir), 'sevenn_data', '*.pt'))
    found += [checkpoint] if isinstance(checkpoint, str) else []
    return [path for path in dict.fromkeys(found) if os.path.isfile(path)]


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested lists and blocks."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _files(entry: dict[str, Any]) -> list[dict[str, Any]]:
    listed = entry.get('file_list')
    files = listed if isinstance(listed, list) else []
    return [file for file in files if isinstance(file, dict)]
