"""What a checkpoint says about itself: fidelities, references, data, versions."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import sevennet_mf
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.references import References


def describe(
    inputs: RunInputs,
    names: Sequence[str],
    sets: dict[str, FidelityDataset],
    references: dict[str, Any],
) -> dict[str, Any]:
    """Return the provenance of a run, in plain builtins.

    Args:
        names: the fidelities by their index in the model.
        sets: by name.
        references: by fidelity and element, energies in eV, as returned by
            References.as_dict().
    """
    return {
        'fidelities': list(names),
        'order': list(inputs.order),
        'base': inputs.base,
        'target': inputs.target,
        'defaults': inputs.defaults,
        'about': inputs.data.about,
        'reference_energies': references,
        'data': {
            name: {
                fidelity: _counts(dataset, index)
                for index, fidelity in enumerate(names)
                if (dataset.fidelity_index == index).any()
            }
            for name, dataset in sets.items()
        },
        'files': {
            f'{name}: {file}': digest
            for name, dataset in sets.items()
            for file, digest in dataset.file_hashes.items()
        },
        'versions': versions(),
    }


def _counts(dataset: FidelityDataset, index: int) -> dict[str, int]:
    chosen = dataset.fidelity_index == index
    count = int((dataset.inferred & chosen).sum())
    inferred = {'inferred': count} if count else {}
    return {
        'structures': int(chosen.sum()),
        'atoms': int(dataset.n_atoms[chosen].sum()),
        **{label: int((has & chosen).sum()) for label, has in dataset.has.items()},
        **inferred,
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that a run uses."""
    packages = ('sevenn', 'torch', 'e3nn', 'ase', 'numpy')
    found = {name: importlib.metadata.version(name) for name in packages}
    return {'sevennet_mf': sevennet_mf.__version__, **found}


def report(references: References) -> list[str]:
    """Return lines for the log: the energy of each element at each fidelity."""
    lines = ['Reference energies (eV)']
    for fidelity, elements in references.as_dict().items():
        cells = [
            f'{symbol} {value["energy"]:.4f}'
            + ('' if value['determined'] else ' (not determined)')
            for symbol, value in elements.items()
        ]
        lines.append(f'{fidelity:<20}: ' + ', '.join(cells))
    return lines
