"""The fidelity that a structure names, exactly as in its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict
from sevenn import _keys as KEY
from sevenn.atom_graph_data import AtomGraphData

from sevennet_mf.data.formats import xyz


def parse_comment(line: str, key: str) -> dict[str, Any]:
    """Parse the comment of an extended XYZ frame as ASE does, except for `key`.

    Its value stays a string: T and true would both become True, and 1e3 1000.0.
    """
    info = xyz.parsed(line)
    value = info.get(key)
    if isinstance(value, (bool, int, float, np.generic)):
        given = re.findall(
            rf'(?:^|\s)["\']?{re.escape(key)}["\']?\s*=\s*["\']?([^\s"\']+)', line
        )
        # what stands within another text need not be meant
        meant = [t for t in given if key_val_str_to_dict(f'{key}={t}')[key] == value]
        if meant:  # else it is a key without a value
            info[key] = meant[-1]
    return info


def info_of(item: Atoms | AtomGraphData) -> dict[str, Any]:
    """Return what a file says of a structure in addition to geometry and labels."""
    if isinstance(item, Atoms):
        return dict(item.info)
    values = item.to_dict()
    info = values.get(KEY.INFO)
    found = dict(info) if isinstance(info, Mapping) else {}
    if isinstance(modality := values.get(KEY.DATA_MODALITY), str):
        found.setdefault(KEY.DATA_MODALITY, modality)
    return found


def fidelity_in(info: Mapping[str, Any], key: str | None) -> str | None:
    """Return the name under `key`, or None."""
    own = None if key is None else info.get(key)
    if own is None:
        return None
    # a name such as `2` was read as a number
    return str(own.item() if isinstance(own, np.generic) else own)
