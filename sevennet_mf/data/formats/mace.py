"""What MACE's extended XYZ says of a structure in addition to its labels.

This is its level of theory, whether it is an isolated atom, and weights, which
DeePMD has as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.io.formats import open_with_compression

from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.errors import UserError

HEAD: Final[str] = 'head'  # the key under which MACE has the level of a structure
KIND, ISOLATED = 'config_type', 'IsolatedAtom'
IN_COMMENT: Final[re.Pattern[str]] = re.compile(rf'\b{HEAD}=(?:"([^"]*)"|(\S+))')
OF_MACE: Final[re.Pattern[str]] = re.compile(rf'\b{KIND}="?{ISOLATED}\b')
# name -> the key of an entry that reads the label it weighs, '' for all of them
WEIGHTS: Final[dict[str, str]] = {
    'config_weight': '',
    'config_energy_weight': 'energy_key',
    'config_forces_weight': 'force_key',
    'config_stress_weight': 'stress_key',
    'config_virials_weight': 'virial_key',
    'atom_pref': 'force_key',
}


def is_isolated(atoms: Atoms) -> bool:
    """Return whether a structure is an isolated atom, for references only."""
    return len(atoms) == 1 and atoms.info.get(KIND) == ISOLATED


def heads_of(path: str) -> list[str] | None:
    """Return the heads in an extended XYZ file in the order of its structures.

    Only its comment lines are read.

    Returns:
        None for a file with neither heads nor isolated atoms that are marked as
        MACE marks them.
    """
    heads: dict[str, None] = {}
    is_mace = False
    try:
        with open_with_compression(path, 'r') as lines:
            while (count := lines.readline()).strip():
                comment = lines.readline()
                for _ in range(int(count)):
                    lines.readline()
                is_mace = is_mace or bool(OF_MACE.search(comment))
                alone = int(count) == 1 and ISOLATED in comment
                if not alone and (found := IN_COMMENT.search(comment)):
                    heads[found[1] or found[2]] = None
    except (OSError, UnicodeDecodeError, ValueError):
        return None  # reading it for good will tell
    return [*heads] if is_mace or heads else None


def weightless(
    info: Mapping[str, Any], entry: Entry, where: str
) -> frozenset[str]:
    """Return the keys of labels with weight 0, which marks a missing label.

    `weight_key: null` in the entry ignores weights.

    Raises:
        UserError: A weight is neither 0 nor 1, or a structure or its energy has
            weight 0, which excludes it from training.
    """
    if 'weight_key' in entry:
        return frozenset()
    found = set()
    for name in WEIGHTS.keys() & info.keys():
        value = np.asarray(info[name], dtype=np.float64)
        if value.size == 0 or (value == 1.0).all():
            continue
        what = f'{where} has {name} {_first(value)}'
        if not (value == 0.0).all():
            raise UserError(
                f'{what}: weights of single structures other than 0 and 1 have no '
                'meaning here. Remove it, or write `weight_key: null` to ignore all '
                'of them; train.fidelity.loss_weight weighs a fidelity.'
            )
        if WEIGHTS[name] in ('', 'energy_key'):
            raise UserError(
                f'{what}, which excludes it from training, but every structure '
                'here needs its energy. Remove it, or write `on_bad: skip`.'
            )
        found.add(WEIGHTS[name])
    return frozenset(found)


def _first(value: Any) -> str:
    return f'{value[value != 1.0].flat[0]:g}'
