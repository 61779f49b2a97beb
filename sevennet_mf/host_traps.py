"""What SevenNet's own multi-modal training would do without a word.

A YAML with the host's modality keys takes the host's path and gives the host's
numbers; what is known to go wrong there is said, not mended.
"""

from __future__ import annotations

import glob
import os
from typing import Any

LABELS = ('energy_key', 'force_key', 'stress_key')
HINT = 'The `fidelity` blocks of sevennet_mf do not have this limit.'


def warnings_for(sections: dict[str, Any], working_dir: str) -> list[str]:
    """One line for each trap that a multi-modal YAML of the host steps into."""
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
            'checkpoint and hands the scheduler inf.'
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
            'hold now.'
        )
    if str(data.get('shift')) == 'elemwise_reference_energies':
        lines.append(
            'elemwise_reference_energies gives an element that one modality lacks '
            'the energy 0 there.'
        )
    names = {str(entry.get('data_modality')) for entry in entries}
    if len(names) == 1:
        lines.append(f'SevenNet crashes on one modality ({names.pop()}).')
    return [f'{line} {HINT}' for line in lines]


def _files(entry: dict[str, Any]) -> list[dict[str, Any]]:
    listed = entry.get('file_list')
    files = listed if isinstance(listed, list) else []
    return [file for file in files if isinstance(file, dict)]
