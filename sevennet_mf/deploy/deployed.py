"""What a deployed model contains about itself, read without running it."""

from __future__ import annotations

import json
import os
import re
import zipfile
from typing import Any, Final

from sevennet_mf.errors import UserError

# an entry of the archive besides the host's own; other readers ignore it
PROVENANCE_FILE: Final[str] = 'sevennet_mf.json'
SEGMENT_FILE: Final[str] = 'sevennet_mf_segment'  # hash of the model, number
# a TorchScript archive: the same model with the fused convolution, for our pairs
FAST_FILE: Final[str] = 'sevennet_mf_fast.pt'
SEGMENT: Final = re.compile(r'deployed_parallel_(\d+)\.pt')


def segments_in(folder: str) -> list[str]:
    """Return the files of a parallel model in order, without missing ones."""
    numbers = [int(m[1]) for n in os.listdir(folder) if (m := SEGMENT.fullmatch(n))]
    return [segment_path(folder, i) for i in sorted(numbers)]


def segment_path(folder: str, number: int) -> str:
    """Return the path of a segment in the host's parallel format."""
    return os.path.join(folder, f'deployed_parallel_{number}.pt')


def read_deployed(path: str) -> dict[str, Any]:
    """Return the metadata of a deployed model, without running it.

    Args:
        path: A file, or the folder of a parallel model.

    Returns:
        'kind' ('serial' or 'parallel'), 'segments' and 'segment' (None for a
        folder), 'elements' (symbols by type index), 'cutoff' (Å), 'num_species',
        'comm_size' (None for serial), 'model_type', 'version' (of sevenn), 'dtype',
        'time', 'flashTP' and 'oeq' (bool), 'hash' and 'provenance' (None and {} in
        the host's own files), 'fast' ('table', 'network' or None: where the form for
        our pair styles has its radial weights from) and 'architecture' (as in
        `info`; {} in the host's files and older ones).

    Raises:
        UserError: It is something else, or a folder whose segments do not belong
            together.
    """
    if not os.path.isdir(path):
        return _read_file(path)
    names = segments_in(path)
    if not names:
        raise UserError(f'{path} contains no deployed_parallel_0.pt.')
    found = [_read_file(name) for name in names]
    first = found[0]
    whole = first['segments'] or len(found)  # the host's files do not say
    if names != [segment_path(path, i) for i in range(whole)] or any(
        one['kind'] != 'parallel' or one['hash'] != first['hash'] for one in found
    ):
        raise UserError(
            f'{path}: its files are not the {whole} segments of one model. Deploy '
            'the model again.'
        )
    return {**first, 'segments': len(found), 'segment': None}


def extra_files(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the texts that a TorchScript archive has besides the model, by name."""
    return {
        name.split('/extra/', 1)[1]: archive.read(name).decode()
        for name in archive.namelist()
        if '/extra/' in name and not name.endswith(FAST_FILE)
    }


def _read_file(path: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            extra = extra_files(archive)
        ours = json.loads(extra.pop(PROVENANCE_FILE, '{}'))
        return _metadata(extra, ours)
    except FileNotFoundError:
        raise UserError(f'no such file: {path}') from None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        raise UserError(
            f'{path} is not a deployed SevenNet model, or it is truncated.'
        ) from None


def _metadata(extra: dict[str, str], ours: dict[str, Any]) -> dict[str, Any]:
    comm_size = extra.get('comm_size')
    return {
        'kind': 'serial' if comm_size is None else 'parallel',
        'segments': ours.get('segments'),
        'segment': ours.get('segment'),
        'elements': extra['chemical_symbols_to_index'].split(),
        'cutoff': float(extra['cutoff']),
        'num_species': int(extra['num_species']),
        'comm_size': None if comm_size is None else int(comm_size),
        'flashTP': extra.get('flashTP') == 'yes',
        'oeq': extra.get('oeq') == 'yes',
        'model_type': extra.get('model_type'),
        'version': extra.get('version'),
        'dtype': extra.get('dtype'),
        'time': extra.get('time'),
        'hash': ours.get('hash'),
        'provenance': ours.get('provenance') or {},
        'fast': ours.get('fast'),
        'architecture': ours.get('architecture') or {},
    }
