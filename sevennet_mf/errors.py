"""Errors that a user can act on, and the hint that helps him."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import SequenceMatcher, get_close_matches


class UserError(ValueError):
    """What was typed or given cannot be used; the message is one clear line."""


class HostError(RuntimeError):
    """The installed sevenn is not one this package works with."""


class TrainingStopped(RuntimeError):
    """Training ended before its last epoch; what was reached is on disk."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `known`, or ''."""
    return _hint(name, {str(k).lower(): str(k) for k in known})


def nearest_file(path: str) -> str:
    """Return the hint that names the file beside `path` which was meant, or ''."""
    folder, name = os.path.split(path)
    here = sorted(os.listdir(folder or '.')) if os.path.isdir(folder or '.') else []
    # all files of a kind end alike, which is no likeness
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
    """Whether two words that share many letters are like to somebody who reads."""
    return (
        one in other
        or other in one
        or sorted(one) == sorted(other)  # letters that changed places
        or len(os.path.commonprefix([one, other])) > 2
        or SequenceMatcher(None, one, other).ratio() >= 0.7
    )


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].lower()


def unknown(
    key: str, name: str, known: Iterable[str], remedy: str = ''
) -> UserError:
    """The error for a `name` under `key` that is none of `known`."""
    known = list(known)
    tail = f' {remedy}' if remedy else ''
    return UserError(
        f'{key} must be one of {known}, got {name!r}.{nearest(name, known)}{tail}'
    )


@contextmanager
def said_as(options: Mapping[str, str]) -> Iterator[None]:
    """Within, errors that name keys of a YAML name options of the command line."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for key, option in options.items():
            text = text.replace(key, option)
        raise UserError(text) from None
