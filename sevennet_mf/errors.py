"""Errors that a user can act on, and the hint that helps him."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """What was typed or given cannot be used; the message is one clear line."""


class HostError(RuntimeError):
    """The installed sevenn is not one this package works with."""


class TrainingStopped(RuntimeError):
    """Training ended before its last epoch; what was reached is on disk."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `known`, or ''."""
    lowered = {str(k).lower(): str(k) for k in known}
    close = get_close_matches(str(name).lower(), lowered, n=1)
    return f' Did you mean {lowered[close[0]]!r}?' if close else ''


def unknown(
    key: str, name: str, known: Iterable[str], remedy: str = ''
) -> UserError:
    """The error for a `name` under `key` that is none of `known`."""
    known = list(known)
    tail = f' {remedy}' if remedy else ''
    return UserError(
        f'{key} must be one of {known}, got {name!r}.{nearest(name, known)}{tail}'
    )
