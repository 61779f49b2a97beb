"""Records of structures in Parquet, one per row, read in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ase import Atoms

from sevennet_mf.data.formats.known import need
from sevennet_mf.data.formats.records import CONFIGURATION, structures
from sevennet_mf.data.reading.labels import Entry
from sevennet_mf.errors import UserError

BATCH: Final[int] = 256  # rows in memory
FORCES: Final = 'atomic_forces'  # as ColabFit calls them


def rows(path: str, entry: Entry) -> Iterator[Atoms | UserError]:
    """Yield the structures of a file; an error in place of an invalid one.

    A structure is pymatgen's dictionary under `structure`, as nested columns or as
    JSON, or the columns of OPTIMADE (`lattice_vectors`, `species_at_sites`,
    `cartesian_site_positions`) or of ColabFit (`cell`, `pbc`, `atomic_numbers`,
    `positions`).

    Raises:
        UserError: The file is not Parquet.
    """
    del entry
    arrow = need('pyarrow', path)
    number = -1
    try:
        for number, item in enumerate(structures(_records(path), path)):  # noqa: B007
            yield item
    except (arrow.ArrowException, OSError) as error:
        raise _broken(path, f'after row {number}', error) from error


def recognised(path: str) -> str:
    """Return the form of a file, recognised by the names of its columns.

    Raises:
        UserError: The file is not Parquet.
    """
    arrow = need('pyarrow', path)
    try:
        names = need('pyarrow.parquet', path).read_schema(path).names
    except (arrow.ArrowException, OSError) as error:
        raise _broken(path, 'at its end', error) from error
    return 'colabfit' if {*CONFIGURATION, FORCES} <= {*names} else 'parquet'


def _records(path: str) -> Iterator[dict[str, Any]]:
    with need('pyarrow.parquet', path).ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            yield from batch.to_pylist()


def _broken(path: str, where: str, error: Exception) -> UserError:
    reason = ' '.join(str(error).split()).rstrip('.')
    return UserError(
        f'{path} cannot be read as Parquet {where}: {reason}. Is it complete?'
    )
