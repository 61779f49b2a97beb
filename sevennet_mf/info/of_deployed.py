"""What a model deployed for LAMMPS contains about itself; it is read, not run."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, Final

import sevenn._keys as KEY
from ase.data import atomic_numbers

from sevennet_mf.deploy.deployed import (
    SEGMENT,
    read_deployed,
    segment_path,
    segments_in,
)
from sevennet_mf.info.common import (
    labels_of,
    nothing_known,
    origins,
    provenance_problems,
)

# what all segments of one model have in common
SHARED: Final = (
    *('elements', 'cutoff', 'comm_size', 'version', 'dtype', 'time'),
    *('flashTP', 'oeq', 'hash', 'fast'),
)


def file(path: str) -> dict[str, Any]:
    """Return `info` of a deployed file: a serial model or one segment."""
    known = read_deployed(path)
    if known['kind'] == 'serial':
        return _found(path, 'deployed', known)
    found = _found(path, 'deployed segment', known)
    if found['deployed']['segment'] is None:  # the host's files do not say
        match = SEGMENT.fullmatch(os.path.basename(path))
        found['deployed']['segment'] = int(match[1]) if match else None
    return found


def folder(path: str) -> dict[str, Any]:
    """Return `info` of the folder of a parallel model."""
    names = segments_in(path)
    parts = [read_deployed(name) for name in names]
    found = _found(path, 'deployed folder', parts[0])
    found['deployed'].update(segment=None, segments=len(names))
    found['warnings'] += _folder_problems(path, names, parts)
    return found


def _found(path: str, kind: str, known: dict[str, Any]) -> dict[str, Any]:
    origin = known['provenance']
    found = nothing_known(path, kind)
    found.update(origins(origin))
    found.update(
        {
            'sevenn': known['version'],
            'when': known['time'],
            'hash': known['hash'],
            'elements': sorted(known['elements'], key=atomic_numbers.__getitem__),
            'fidelities': list(origin.get('fidelities') or ()),
            'accelerator': 'FlashTP' if known['flashTP'] else None,
            'deployed': {
                'pair_style': 'e3gnn' if kind == 'deployed' else 'e3gnn/parallel',
                **{name: known[name] for name in ('segment', 'segments')},
                **{name: known[name] for name in ('comm_size', 'dtype')},
                **{name: known[name] for name in ('model_type', 'flashTP', 'oeq')},
                'fast': known['fast'],
            },
        }
    )
    if known['oeq']:
        found['accelerator'] = 'OpenEquivariance'
    found['architecture'].update(known['architecture'], cutoff=known['cutoff'])
    found['reference_energies'] = _references(found, origin)
    found['warnings'] = list(dict.fromkeys(_problems(found, origin)))
    return found


def _references(found: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
    """As training determined them; the file itself has none that can be read."""
    report = {}
    for name in found['fidelities']:
        own = (origin.get('reference_energies') or {}).get(labels_of(name, origin))
        if own:
            report[name] = {s: own[s] for s in found['elements'] if s in own}
    return report


def _problems(found: dict[str, Any], origin: dict[str, Any]) -> Iterator[str]:
    yield from provenance_problems(found['fidelities'], origin)
    if found['accelerator']:
        yield (
            f'deployed with {found["accelerator"]}: LAMMPS needs a GPU and a pair '
            'style that was built with it.'
        )


# ---- the segments of a folder


def _folder_problems(
    path: str, names: Sequence[str], parts: Sequence[dict[str, Any]]
) -> Iterator[str]:
    """Segments that are missing, superfluous, or of another model."""
    others = sorted(set(os.listdir(path)) - {os.path.basename(n) for n in names})
    if others:
        yield f'{others[0]} is not a segment of a parallel model.'
    numbers = [names.index(n) for n in names if _gives_energy(n)]
    said = parts[0]['segments']
    # the last segment gives the energy; the host's files do not say how many
    whole = said or (numbers[0] + 1 if numbers else len(names) + 1)
    wanted = [segment_path(path, i) for i in range(whole)]
    missing = [os.path.basename(n) for n in wanted if n not in names]
    if missing:
        yield f'{missing[0]} is missing: LAMMPS cannot run the model.'
    extra = [os.path.basename(n) for n in names if n not in wanted]
    if extra:
        yield f'{extra[0]} is superfluous: the model has {whole} segments.'
    for name, part in zip(names, parts, strict=True):
        apart = [key for key in SHARED if part[key] != parts[0][key]]
        if apart:
            yield (
                f'{os.path.basename(name)} belongs to another model than '
                f'{os.path.basename(names[0])}: its {apart[0]} is '
                f'{part[apart[0]]}, not {parts[0][apart[0]]}. Deploy again.'
            )


def _gives_energy(path: str) -> bool:
    """Whether the code of a segment writes the total energy: it is the last one."""
    with zipfile.ZipFile(path) as archive:
        return any(
            KEY.PRED_TOTAL_ENERGY.encode() in archive.read(name)
            for name in archive.namelist()
            if '/code/' in name and name.endswith('.py')
        )
