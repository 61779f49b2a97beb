"""SevenNet's own graph files: `.pt` of a `sevenn_data` folder, `.sevenn_data`.

SevenNet's own readers would run any code that such a file contains.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

import yaml
from sevenn.atom_graph_data import AtomGraphData
from torch_geometric.data import InMemoryDataset

from sevennet_mf.checkpoint import unpickle
from sevennet_mf.errors import UserError


def processed(path: str, cutoff: float) -> Sequence[AtomGraphData]:
    """Return the graphs of a `.pt` file, whose YAML is next to it.

    Args:
        cutoff: in Å; the graphs must have been made with it.

    Raises:
        UserError: The graphs cannot be used. Any exception may be raised for a file
            of another kind.
    """
    meta = path.removesuffix('.pt') + '.yaml'
    folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
    if not os.path.isfile(meta) or folder != 'sevenn_data':
        raise UserError(
            f'{path} must be in a folder named `sevenn_data` beside {meta}, as '
            'written by SevenNet, which has its cutoff. Copy the whole folder.'
        )
    with open(meta, encoding='utf-8') as stream:
        made_with = float(yaml.safe_load(stream)['cutoff'])
    _check_cutoff(path, made_with, cutoff)
    packed: Any
    packed, slices, *kind = unpickle.read(path)
    if isinstance(packed, dict):
        packed = (kind[0] if kind else AtomGraphData).from_dict(packed)
    graphs = InMemoryDataset()
    graphs.data, graphs.slices = packed, slices
    return graphs


def of_old_form(path: str, cutoff: float) -> Sequence[AtomGraphData]:
    """Return the graphs of a `.sevenn_data` file; otherwise as `processed`."""
    # with scikit-learn behind it, which few runs need
    from sevenn.train.dataset import AtomGraphDataset

    found = unpickle.read(path)
    if not isinstance(found, AtomGraphDataset):
        raise ValueError(f'it contains a {type(found).__name__}, not graphs')
    _check_cutoff(path, found.cutoff, cutoff)
    return list(chain.from_iterable(found.dataset.values()))


def _check_cutoff(path: str, made_with: float, cutoff: float) -> None:
    if float(made_with) != float(cutoff):
        raise UserError(
            f'{path} was made with cutoff {made_with:g} Å, but model.cutoff is '
            f'{cutoff:g}. Make the two equal, or give the structures themselves.'
        )
