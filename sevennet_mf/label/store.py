"""The files of one fidelity, which grow label by label and survive `kill -9`.

`<name>.extxyz` is appended to, frame by frame; what a killed run left of a frame is
cut off. `<name>_failed.csv` lists what failed, and `<name>.json` says who labels.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import ase.io
from ase import Atoms

from sevennet_mf import lock
from sevennet_mf.data.extxyz import whole_frames, write_one
from sevennet_mf.errors import UserError
from sevennet_mf.files import (
    make_folder,
    read_json,
    unwritable,
    write_csv,
    write_json,
    write_whole,
)
from sevennet_mf.label.structures import FIDELITY, MARK
from sevennet_mf.label.teacher import RELAXATION, same_teacher

HEAD: Final[tuple[str, ...]] = (MARK, 'source', 'error')
OTHER: Final[str] = 'Choose another folder with -o, or another name with -f.'
REMEDY: Final[str] = 'What is labelled is kept; free space, then repeat the command.'


class Store:
    """The labels of one fidelity in a folder; locked while it is open.

    Args:
        folder: It is made if it does not exist.
        name: Of the fidelity.
        record: Of the teacher, as `record_of` returns it.

    Raises:
        UserError: The folder cannot be used, another process works in it, or it has
            labels of another teacher.
    """

    def __init__(self, folder: Path, name: str, record: Mapping[str, Any]) -> None:
        self.name = name
        self.path = folder / f'{name}.extxyz'
        self.failures = folder / f'{name}_failed.csv'
        self.about = folder / f'{name}.json'
        make_folder(folder, 'Choose another folder with -o.', to_write=True)
        with ExitStack() as stack:
            told = f'is labelling {self.path}. Wait, or choose another folder.'
            stack.enter_context(lock.held(folder / f'.{name}.lock', told))
            self._take(record)
            frames = list(self._whole_frames())
            self._frames = dict(frames)
            self._has_former = len(self._frames) < len(frames)
            self._failed = {row[0]: row for row in self._read_failed()}
            self._stack = stack.pop_all()

    def _take(self, record: Mapping[str, Any]) -> None:
        known = read_json(self.about)
        has_labels = self.path.exists() and self.path.stat().st_size > 0
        if has_labels and not known:
            raise UserError(
                f'{self.path} was not written by `sevennet-mf label`. {OTHER}'
            )
        if known and not same_teacher(known, record):
            if has_labels:
                raise UserError(
                    f'{self.path} has labels of {_shown(known)}, and now it would '
                    f'get those of {_shown(record)}. {OTHER}'
                )
            # it labelled nothing: its calculator could not be made, perhaps
            self.failures.unlink(missing_ok=True)
            known = {}
        # a killed run loses times: they belong to so many labels, not to all of them
        timed = {name: known.get(name, 0) for name in ('seconds', 'timed')}
        self._record = {**record, **timed}
        write_json(self.about, self._record)

    def close(self) -> None:
        """Give the files to other processes."""
        self._stack.close()

    # ---- what there is

    def __contains__(self, mark: str) -> bool:
        return mark in self._frames

    def was_tried(self, mark: str) -> bool:
        """Whether a structure has a label, or failed."""
        return mark in self._frames or mark in self._failed

    def read(self, mark: str) -> Atoms:
        """Return a structure with its labels."""
        start, end = self._frames[mark]
        with self.path.open('rb') as stream:
            stream.seek(start)
            frame = stream.read(end - start).decode()
        found: Atoms = ase.io.read(io.StringIO(frame), format='extxyz')
        return found

    @property
    def labelled(self) -> int:
        """How many structures have a label."""
        return len(self._frames)

    @property
    def failed(self) -> dict[str, list[str]]:
        """Rows (id, source, error) of the structures that failed, by id."""
        return {m: row for m, row in self._failed.items() if m not in self._frames}

    @property
    def seconds_each(self) -> float:
        """Time spent on a label, of all calls; 0 before the first."""
        return float(self._record['seconds'] / max(self._record['timed'], 1))

    def _whole_frames(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield id and place of each frame; cut off a torn one at the end."""
        if not self.path.is_file():
            return
        with self.path.open('r+b') as stream:
            end = 0
            for mark, start, end in _frames(stream, str(self.path)):
                yield mark, (start, end)
            stream.truncate(end)

    def _read_failed(self) -> Iterator[list[str]]:
        if not self.failures.is_file():
            return
        text = self.failures.read_bytes()
        whole = text[: text.rfind(b'\n') + 1]
        if whole != text:
            os.truncate(self.failures, len(whole))
        for row in csv.reader(io.StringIO(whole.decode())):
            if len(row) == len(HEAD) and tuple(row) != HEAD:
                yield row

    # ---- what is added

    def add(self, mark: str, atoms: Atoms, seconds: float) -> None:
        """Append a labelled structure; it is on the disk afterwards.

        It takes the place of one with the same id, which `finish` removes.

        Raises:
            UserError: The disk is full.
        """
        atoms.info[FIDELITY] = self.name
        text = io.StringIO()
        write_one(text, atoms)
        start = _append(self.path, text.getvalue())
        self._has_former |= mark in self._frames
        self._frames[mark] = (start, start + len(text.getvalue().encode()))
        self._record['seconds'] += seconds
        self._record['timed'] += 1

    def fail(self, mark: str, source: str, line: str) -> None:
        """Note that a structure failed, and why, in one line."""
        row = [mark, source, line]
        text = io.StringIO()
        write = csv.writer(text, lineterminator='\n')
        is_new = not self.failures.is_file() or not self.failures.stat().st_size
        write.writerows([HEAD, row] if is_new else [row])
        _append(self.failures, text.getvalue())
        self._failed[mark] = row

    def forget_failures(self) -> None:
        """Let structures that failed be tried again."""
        self._failed = {}
        self.failures.unlink(missing_ok=True)

    def finish(self, order: Iterable[str]) -> None:
        """Sort the labels, and remove failures that were overcome.

        Args:
            order: Ids; those of earlier calls with other structures stay in front.
        """
        write_json(self.about, self._record)
        if len(self.failed) < len(self._failed):
            self._failed = self.failed
            self.failures.unlink(missing_ok=True)
            if self._failed:
                write_csv(self.failures, [HEAD, *self._failed.values()])
        place = {mark: number for number, mark in enumerate(order)}
        wanted = sorted(self._frames, key=lambda mark: place.get(mark, -1))
        if wanted == list(self._frames) and not self._has_former:
            return
        with self.path.open('rb') as old:

            def copy(new: IO[bytes]) -> None:
                for mark in wanted:
                    start, end = self._frames[mark]
                    old.seek(start)
                    new.write(old.read(end - start))

            write_whole(self.path, copy, REMEDY)
        with self.path.open('rb') as stream:
            self._frames = {m: (a, b) for m, a, b in _frames(stream, str(self.path))}
        self._has_former = False


def _shown(record: Mapping[str, Any]) -> str:
    """A teacher in a message."""
    parts = [str(record.get('with'))]
    if 'fidelity' in record:
        parts.append(f'at {record["fidelity"]} (SHA-256 {record["sha256"][:8]})')
    if record.get('arguments'):
        parts.append(f'with {record["arguments"]}')
    if RELAXATION in record:
        parts.append(f'({record[RELAXATION]})')
    return ' '.join(parts)


def _append(path: Path, text: str) -> int:
    """Write at the end of a file and onto the disk; return where that began."""
    try:
        with path.open('ab') as stream:
            start = stream.tell()
            try:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                os.truncate(path, start)
                raise
    except OSError as error:
        raise unwritable(path, error, REMEDY) from None
    return start


def _frames(stream: IO[bytes], path: str) -> Iterator[tuple[str, int, int]]:
    """Yield (id, start, end) of the whole frames of a file of labels."""
    end = 0
    try:
        for comment, start, end in whole_frames(stream):
            yield _mark_in(comment), start, end
        stream.seek(end)
        stream.readline()
        torn = stream.readline()
        if torn.endswith(b'\n'):
            _mark_in(torn)  # what is cut off must be ours
    except ValueError:
        raise UserError(
            f'{path} has structures that were not labelled by this command. {OTHER}'
        ) from None


def _mark_in(comment: bytes) -> str:
    """The id in the comment line of a frame; ValueError if there is none."""
    found = re.search(rb'\b' + MARK.encode() + rb'=(\w+)', comment)
    if found is None:
        raise ValueError
    return found[1].decode()
