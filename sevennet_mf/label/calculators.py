"""ASE calculators by their import path, and what they know of a structure."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from sevennet_mf.data.reading.stress import has_stress
from sevennet_mf.errors import UserError, nearest
from sevennet_mf.label.exchange import IMPORT_PATH

# what is asked for, the forces first: where they cost a calculation of their own,
# it gives the energy as well
PROPERTIES: Final[tuple[str, ...]] = ('forces', 'stress', 'energy', 'free_energy')

def imported(told: str) -> Callable[..., Any]:
    """Return the class or the function that an import path names.

    Raises:
        UserError: There is none.
    """
    match = IMPORT_PATH.fullmatch(told)
    assert match is not None
    where = f'--with {told}'
    try:
        with _here_importable():
            module = _module(match['module'])
    except UserError:
        raise
    except Exception as error:  # whatever a module does when it is imported
        raise UserError(
            f'{match["module"]} cannot be imported: {line_of(error)}. Install it, '
            'or correct the name.',
            where=where,
        ) from error
    found: Any = module
    for name in match['name'].split('.'):
        if not hasattr(found, name):
            raise UserError(
                f'{match["module"]} has no {name!r}.{nearest(name, dir(found))} '
                'Correct the name after the colon.',
                where=where,
            )
        found = getattr(found, name)
    if not callable(found):
        raise UserError(
            'it is neither a class nor a function that returns a calculator.',
            where=where,
        )
    return found


def _module(name: str) -> Any:
    if not name.endswith('.py'):
        return importlib.import_module(name)
    if not os.path.isfile(name):
        raise UserError(f'no such file: {name}')
    # by a name of its own: it may be called like a package
    own = f'label:{os.path.abspath(name)}'
    spec = importlib.util.spec_from_file_location(own, name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look it up
    spec.loader.exec_module(module)
    return module


@contextmanager
def _here_importable() -> Iterator[None]:
    """Within, modules of the current folder are found, as by `python -m`."""
    here = os.getcwd()
    if here in sys.path or '' in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def made(told: str, arguments: Mapping[str, Any], folder: Path | None = None) -> Any:
    """Return a new calculator.

    Args:
        told: Its import path; files and modules are found from the current folder.
        arguments: Its keywords.
        folder: Where it is made, if it writes files; default: the current folder.

    Raises:
        UserError: It cannot be made with these arguments, or is none.
    """
    make = imported(told)
    try:
        with _here_importable(), chdir(folder or '.'):
            calculator = make(**arguments)
    except Exception as error:  # whatever a calculator finds wrong
        remedy = (
            f'Correct --arguments (given: {", ".join(arguments)}).'
            if arguments
            else 'If it needs arguments, give them with --arguments.'
        )
        raise UserError(
            f'the calculator cannot be made: {line_of(error)}. {remedy}',
            where=f'--with {told}',
        ) from error
    if not hasattr(calculator, 'get_potential_energy'):
        raise UserError(
            f'it returns a {type(calculator).__name__}, not a calculator of ASE.',
            where=f'--with {told}',
        )
    return calculator


def line_of(error: BaseException) -> str:
    """Return the kind of an error and its message in one line."""
    text = ' '.join(str(error).split()).rstrip('.')
    if isinstance(error, UserError):
        return text
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


# ---- results


def results_of(calculator: Any, atoms: Atoms) -> dict[str, Any]:
    """Return the properties that a calculator has for a structure.

    Raises:
        UserError: The calculation has not converged.
        Exception: Whatever the calculator raises.
    """
    atoms = atoms.copy()
    atoms.calc = calculator
    known = getattr(calculator, 'implemented_properties', PROPERTIES)
    found: dict[str, Any] = {}
    for name in PROPERTIES:
        if name not in known or (name == 'stress' and not has_stress(atoms)):
            continue
        try:
            found[name] = _ask[name](atoms)
        except NotImplementedError as error:
            # of ASE's EMT, for an element: only a stress is missing without a word
            is_missing = isinstance(error, PropertyNotImplementedError)
            if name == 'energy' or not (is_missing or name == 'stress'):
                raise
    if _is_unconverged(calculator):
        raise UserError('the calculation has not converged.')
    return found


def are_finite(results: Mapping[str, Any]) -> bool:
    """Return whether no property is NaN or infinite."""
    numbers = (np.asarray(value) for value in results.values())
    return all(np.isfinite(x).all() for x in numbers if x.dtype.kind == 'f')


# constraints are of somebody's relaxation: labels are without them
_ask: Final = {
    'forces': lambda atoms: atoms.get_forces(apply_constraint=False),
    'stress': lambda atoms: atoms.get_stress(apply_constraint=False),
    'energy': lambda atoms: atoms.get_potential_energy(),
    'free_energy': lambda atoms: atoms.get_potential_energy(force_consistent=True),
}


def _is_unconverged(calculator: Any) -> bool:
    """Whether a calculator says so, as ASE's of VASP does; others raise an error."""
    said = getattr(calculator, 'converged', None)
    return isinstance(said, (bool, np.bool_)) and not said
