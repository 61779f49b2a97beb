"""What is reported for every kind of file, and where the provenance has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sevennet_mf import keys


def nothing_known(path: str, kind: str) -> dict[str, Any]:
    """Return every key of `info`, as of a file that contains nothing."""
    architecture = ('channel', 'lmax', 'layers', 'cutoff', 'parity', 'parameters')
    return {
        'path': path,
        'kind': kind,
        **dict.fromkeys(('sevenn', 'when', 'epoch', 'hash')),
        'architecture': dict.fromkeys((*architecture, 'linear_bias')),
        'elements': [],
        'fidelities': [],
        **dict.fromkeys(('order', 'base', 'target')),
        'about': {},
        **dict.fromkeys(('encoding', 'rank', 'scale')),
        'sites': [],
        'reference_energies': {},
        **{name: {} for name in ('data', 'files', 'versions')},
        'trained_with': {},
        'defaults': {},
        'inferred_labels': None,
        **dict.fromkeys(('best', 'ema')),
        'folded_from': None,
        **dict.fromkeys(('accelerator', 'convolution')),
        'deployed': None,
        'warnings': [],
    }


def origins(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a provenance says about the origin of a model."""
    return {
        **{name: provenance.get(name) for name in ('order', 'base', 'target')},
        **{
            name: dict(provenance.get(name) or {})
            for name in (
                *('about', 'data', 'files', 'versions', 'trained_with'),
                'defaults',
            )
        },
        'inferred_labels': provenance.get('inferred_labels'),
        'ema': provenance.get('ema'),
        'folded_from': provenance.get(keys.FOLDED),
    }


def labels_of(name: str, provenance: Mapping[str, Any]) -> str:
    """Return the fidelity whose labels and reference energies a model's `name` has.

    That is its own, except for the common potential and the equal rows of an
    accelerated file.
    """
    folded = provenance.get(keys.FOLDED) or {}
    return str(folded.get('references') or name)


def provenance_problems(
    fidelities: Sequence[str], provenance: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is wrong with a model, according to its provenance."""
    yield from (provenance.get(keys.FOLDED) or {}).get('warnings') or ()
    names = list(dict.fromkeys(labels_of(name, provenance) for name in fidelities))
    trained = (provenance.get('data') or {}).get('trainset') or {}
    for name in names:
        if trained and name not in trained:
            yield f'{name} had no training structures.'
