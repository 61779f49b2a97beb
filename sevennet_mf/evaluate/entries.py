"""Which data a checkpoint is measured on: entries as in a YAML, or a YAML's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sevennet_mf import keys
from sevennet_mf.config import inputs
from sevennet_mf.config.blocks import DataEntry, validate
from sevennet_mf.config.paths import existing
from sevennet_mf.data.reading.fidelity_names import fidelity_in, info_of
from sevennet_mf.data.reading.files import completed, records_of
from sevennet_mf.errors import UserError, nearest
from sevennet_mf.model.load import LoadedModel

Entry = dict[str, Any]
TRAINING_SET: Final[str] = 'trainset'


def entries_of_yaml(
    path: str, sets: Sequence[str] | None = None, key: str | None = None
) -> tuple[list[Entry], str | None, list[str]]:
    """Return (entries, data.fidelity.key, data.fidelity.order) of a YAML.

    A YAML of SevenNet without a fidelity works too; its modalities count as
    fidelities.

    Args:
        sets: 'validset', 'trainset', ...; default: all but the training set.
        key: used instead of the YAML's data.fidelity.key.

    Raises:
        UserError: The YAML has no such set.
    """
    sections = inputs.load_yaml(path)
    order: list[str] = []
    if inputs.has_fidelity(sections):
        asked = inputs.read(sections)
        order, key = list(asked.order), key or asked.data.key
        data: Mapping[str, Any] = asked.entries
    else:
        data = sections.get('data') or {}
    found = {
        name.removeprefix('load_').removesuffix('_path'): value
        for name, value in data.items()
        if keys.is_load_path(name) and value
    }
    chosen = list(sets or [name for name in found if name != TRAINING_SET])
    for name in chosen:
        if name not in found:
            raise UserError(
                f'{path} has no set {name!r}.{nearest(name, found)} It has '
                f'{list(found)}.'
            )
    if not chosen:
        raise UserError(
            f'{path} has no data other than the training set. Add '
            f'load_validset_path, or choose {TRAINING_SET!r}.'
        )
    listed = [entry for name in chosen for entry in _plain(found[name])]
    return all_checked(listed), key, order


def _plain(value: Any) -> Iterable[Entry]:
    """The entries of one `load_*_path`, the host's ways to write it included."""
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, Mapping):
            yield {'file': entry}
        elif 'file_list' in entry:
            own = {'fidelity': f} if (f := entry.get('data_modality')) else {}
            for inner in entry['file_list']:
                yield {**_one(inner), **own}
        else:
            yield dict(entry)


def _one(entry: Any) -> Entry:
    return dict(entry) if isinstance(entry, Mapping) else {'file': entry}


def all_checked(entries: Sequence[Entry]) -> list[Entry]:
    """As `checked`, for entries that errors call by their number."""
    return [checked(e, f'entry {i} of the data') for i, e in enumerate(entries, 1)]


def checked(entry: Entry, where: str) -> Entry:
    """Return an entry, validated, with its patterns expanded to existing files.

    Args:
        where: what errors call the entry.

    Raises:
        UserError: The entry is not valid, or a file does not exist.
    """
    plain = validate(DataEntry, entry, where).model_dump(exclude_unset=True)
    plain['file'] = existing(plain['file'], where)
    return plain


def with_fidelity(
    entry: Entry, loaded: LoadedModel, key: str | None, predict_as: str | None
) -> Entry:
    """Return an entry with its fidelity, where only one is possible.

    Args:
        key: data.fidelity.key, under which structures name theirs.
        predict_as: the fidelity of the model that predicts all data.

    Raises:
        UserError: Several fidelities are possible.
    """
    if 'fidelity' in entry or key is not None:
        return entry
    if predict_as is None and len(loaded.fidelities) > 1:
        raise UserError(
            f'{entry["file"][0]}: its fidelity is not given, and {loaded.path} has '
            f'{list(loaded.fidelities)}. Give the fidelity of the labels (-f).'
        )
    return {**entry, 'fidelity': predict_as or loaded.fidelities[0]}


def names_in(entries: Sequence[Entry], key: str, cutoff: float) -> list[str]:
    """Return the fidelities that structures name under `key` of their info.

    Args:
        cutoff: Å; graph files must have been made with it.
    """
    names: dict[str, None] = {}
    for entry in entries:
        for path in entry['file']:
            whole = completed(path, entry)
            for _, item in records_of(path, whole, cutoff, key):
                if isinstance(item, UserError):
                    continue  # reading it for good will tell
                if name := fidelity_in(info_of(item), key):
                    names[name] = None
    return list(names)
