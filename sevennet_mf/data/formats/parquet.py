"""Records of structures in Parquet, one per row, read in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator

from ase import Atoms

from sevennet_mf.data.formats.known import need
from sevennet_mf.data.formats.records import to_atoms
from sevennet_mf.data.labels import Entry
from sevennet_mf.errors import UserError

BATCH = 256  # rows in memory


def rows(path: str, entry: Entry) -> Iterator[Atoms | UserError]:
    """Yield the structures of a file; an error in place of an invalid one.

    A structure is pymatgen's dictionary under `structure`, as nested columns or as
    JSON, or the columns of OPTIMADE (`lattice_vectors`, `species_at_sites`,
    `cartesian_site_positions`).

    Raises:
        UserError: The file is not Parquet.
    """
    del entry
    parquet = need('pyarrow.parquet', path)
    arrow = need('pyarrow', path)
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for record in batch.to_pylist():
                    where = f'{path}:{number}'
                    number += 1
                    try:
                        yield to_atoms(record, where)
                    except UserError as error:
                        yield error
                    except Exception as error:  # whatever a record may hold
                        yield UserError(f'{where} is no structure: {error!r}.')
    except (arrow.ArrowException, OSError) as error:
        raise UserError(
            f'{path} cannot be read as Parquet after row {number - 1}: '
            f'{" ".join(str(error).split()).rstrip(".")}. Is it complete?'
        ) from error
