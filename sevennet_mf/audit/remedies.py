"""The lines of YAML that would correct a unit, a sign or an order, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SIGN: Final[str] = '`stress_sign: compression`'
GRADIENT: Final[str] = '`gradient_key:` instead of `force_key:`'
VIRIAL: Final[str] = '`virial_key:` instead of `stress_key:`'


def entry_of(fidelity: str) -> str:
    return f'the entry of {fidelity}'


def line(key: str, value: str) -> str:
    """Return the line, or '' without a value.

    Args:
        value: As units.match returns it, the likeliest first.
    """
    return f'`{key}: {value.split(" or ")[0]}`' if value else ''


def line_of_order(order: str) -> str:
    """Return the line for one of units.ORDERS."""
    return line('stress_order', 'vasp' if 'VASP' in order else 'lammps')


def write(*lines: str, where: str = 'its entry', word: str = 'and') -> str:
    """Return ' Write <line> and <line> in <where>.'; '' if all are empty."""
    known = [text for text in lines if text]
    return f' Write {f" {word} ".join(known)} in {where}.' if known else ''


def either(choices: Iterable[tuple[str, str]]) -> str:
    """Return ' Write <line> in <where>, or <line> in <where>.'; '' without any.

    Args:
        choices: Lines and where each belongs; empty lines are left out.
    """
    known = [f'{text} in {where}' for text, where in choices if text]
    return f' Write {", or ".join(known)}.' if known else ''
