"""selected.extxyz for the DFT code, selected.csv as index, a table to print."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ase.io
from ase import Atoms
from rich.table import Table

from sevennet_mf.data.extxyz import stripped
from sevennet_mf.errors import UserError
from sevennet_mf.files import set_aside, write_csv, write_text
from sevennet_mf.select.pool import Candidate, read_again

FILES: Final[tuple[str, ...]] = ('selected.extxyz', 'selected.csv', 'coverage.png')
INDEX_KEYS: Final[tuple[str, ...]] = ('rank', 'source', 'frame')
SHOWN: Final[int] = 30  # rows of the table; the file has all


@dataclass(frozen=True)
class Selected:
    """A structure that was chosen.

    Attributes:
        rank: From 1.
        candidate: The structure, and where it comes from.
        score: Distance times disagreement over cost; None of a structure with an
            element that is new.
        distance: From all that was chosen before or is labelled; None likewise.
        disagreement: Standard deviation over the models, eV/Å or eV/atom; None if it
            was not asked for.
        cost: As `cost` of the options says; None if it was not asked for.
    """

    rank: int
    candidate: Candidate
    score: float | None
    distance: float | None
    disagreement: float | None
    cost: float | None


def check_inputs(folder: str, inputs: Iterable[str]) -> None:
    """Check that no output would overwrite an input.

    Raises:
        UserError: If a file to write is one that is read.
    """
    read = {os.path.realpath(path) for path in inputs}
    for name in FILES:
        path = os.path.join(folder, name)
        if os.path.realpath(path) in read:
            raise UserError(
                f'{path} is an input and would be overwritten. Choose another '
                'folder with -o.'
            )


def set_earlier_aside(folder: str) -> None:
    """Move an earlier selection into a folder of its own, with a warning."""
    place = set_aside(folder, re.compile('|'.join(map(re.escape, FILES))), '-o')
    if place:
        message = f'an earlier selection is now in {place}'
        warnings.warn(message, UserWarning, stacklevel=2)


def write_structures(
    path: str, selected: Sequence[Selected], keep: Sequence[str] = ()
) -> None:
    """Write the structures in the order of choosing, without any label.

    What `stripped` keeps is kept; `rank`, `source` and `frame` are added to the
    info.

    Args:
        keep: Keys of info to keep.
    """
    by_place = {(s.candidate.source, s.candidate.frame): s for s in selected}
    bare: dict[int, Atoms] = {}
    ordered = [by_place[place].candidate for place in sorted(by_place)]
    for candidate, structure in zip(ordered, read_again(ordered), strict=True):
        place = candidate.source, candidate.frame
        assert structure.atoms is not None
        rank = by_place[place].rank
        bare[rank] = stripped(structure.atoms, keep)
        bare[rank].info.update(zip(INDEX_KEYS, (rank, *place), strict=True))
    text = io.StringIO()
    ase.io.write(text, [bare[rank] for rank in sorted(bare)], format='extxyz')
    write_text(path, text.getvalue())


def write_index(path: str, selected: Sequence[Selected], unit: str) -> None:
    """Write one line per structure, with an empty cell for None.

    Args:
        unit: Unit of the disagreement.
    """
    head = ['rank', 'source', 'frame', 'formula', 'n_atoms', 'score', 'distance']
    lines: list[list[Any]] = [[*head, f'disagreement ({unit})', 'cost']]
    for s in selected:
        c = s.candidate
        numbers = (s.score, s.distance, s.disagreement, s.cost)
        lines.append(
            [s.rank, c.source, c.frame, c.formula, c.n_atoms]
            + ['' if x is None else f'{x:.6g}' for x in numbers]
        )
    write_csv(path, lines)


def table(selected: Sequence[Selected], unit: str, caption: str) -> Table:
    """Return the chosen structures as a table for the terminal.

    Args:
        unit: Unit of the disagreement.
    """
    result = Table(title='To compute next', caption=caption, caption_justify='left')
    disagreement = [s.disagreement for s in selected if s.disagreement is not None]
    cost = [s.cost for s in selected if s.cost is not None]
    shown: dict[str, list[float] | list[float | None]] = {}
    if disagreement:
        shown[f'disagreement\n({unit})'] = disagreement
    if cost:
        shown['cost'] = cost
    if shown:  # else it is the distance
        shown['score'] = [s.score for s in selected]
    result.add_column('rank', justify='right')
    result.add_column('structure')
    result.add_column('formula')
    for name in ('atoms', 'distance', *shown):
        result.add_column(name, justify='right')
    for k, s in enumerate(selected[:SHOWN]):
        cells = [str(s.rank), f'{s.candidate.source}:{s.candidate.frame}']
        cells += [s.candidate.formula, str(s.candidate.n_atoms)]
        cells += [_digits(s.distance, '.2f')]
        result.add_row(*cells, *(_digits(v[k], '.3g') for v in shown.values()))
    if len(selected) > SHOWN:
        result.add_row('…', f'{len(selected) - SHOWN} more')
    return result


def _digits(value: float | None, form: str) -> str:
    return '–' if value is None else f'{value:{form}}'


def check_keys(keep: Sequence[str]) -> None:
    """Check the keys to keep.

    Raises:
        UserError: For a key that is written here with another meaning.
    """
    for key in keep:
        if key in INDEX_KEYS:
            raise UserError(
                f'--keep {key}: {", ".join(INDEX_KEYS)} are reserved for the origin '
                'of the structure. Leave it out, or rename the key in the file.'
            )
