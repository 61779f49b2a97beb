"""Errors that users can act on, and the hints that help them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import SequenceMatcher, get_close_matches


class UserError(ValueError):
    """What was typed or given cannot be used; the message is one clear line.

    The command line prints it and ends with exit code 2. Who catches it and knows
    more may add to it.

    Args:
        text: What is wrong, and the remedy.
        key: Of the YAML, which the text goes on from, as `': no such file'` or
            `'must be 1 or more'`.
        where: What the key or the text is in, as a file.
    """

    def __init__(self, text: str, key: str = '', where: str = '') -> None:
        super().__init__(text, key, where)
        self.text, self.key, self.where = text, key, where

    def __str__(self) -> str:
        blank = ' ' if self.key and not self.text.startswith(':') else ''
        said = f'{self.key}{blank}{self.text}'
        return f'{self.where}: {said}' if self.where else said

    def within(self, where: str) -> 'UserError':
        """Return the same error with `where` in front of where it is."""
        outer = f'{where}: {self.where}' if self.where else where
        return type(self)(self.text, self.key, outer)

    def called(self, names: Mapping[str, str]) -> 'UserError':
        """Return the same error with other names for its key and where it is."""
        key, where = (names.get(name, name) for name in (self.key, self.where))
        return type(self)(self.text, key, where)


class HostError(RuntimeError):
    """The installed `sevenn` is not one this package works with."""


class TrainingStopped(RuntimeError):
    """Training ended before its last epoch; what was reached is on disk.

    The command line prints it and ends with exit code 1; `--resume` goes on.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `known`, or ''."""
    return _hint(name, {str(k).lower(): str(k) for k in known})


def nearest_file(path: str) -> str:
    """Return the hint with the file beside `path` that was probably meant, or ''."""
    folder, name = os.path.split(path)
    here = sorted(os.listdir(folder or '.')) if os.path.isdir(folder or '.') else []
    # all files of a kind have the same ending: it is not compared
    stems = {_stem(other): other for other in here if _stem(other)}
    return nearest(name, [n for n in here if n.lower() == name.lower()]) or _hint(
        _stem(name), stems
    )


def _hint(name: str, known: Mapping[str, str]) -> str:
    """The hint with the value of the closest key of `known`."""
    name = str(name).lower()
    for close in get_close_matches(name, known):
        if _is_like(name, close):
            return f' Did you mean {known[close]!r}?'
    return ''


def _is_like(one: str, other: str) -> bool:
    """Whether two words that share many letters look alike to a reader."""
    return (
        one in other
        or other in one
        or sorted(one) == sorted(other)  # swapped letters
        or len(os.path.commonprefix([one, other])) > 2
        or SequenceMatcher(None, one, other).ratio() >= 0.7
    )


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].lower()


def unknown(
    key: str, name: str, known: Iterable[str], remedy: str = ''
) -> UserError:
    """Return the error for a `name` under `key` that is not in `known`."""
    known = list(known)
    tail = f' {remedy}' if remedy else ''
    return UserError(
        f'must be one of {known}, got {name!r}.{nearest(name, known)}{tail}', key
    )


@contextmanager
def said_as(options: Mapping[str, str]) -> Iterator[None]:
    """Within, errors about keys of a YAML name options of the command line."""
    try:
        yield
    except UserError as error:
        raise error.called(options) from None
