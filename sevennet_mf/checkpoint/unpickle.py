"""Files that torch.save wrote: read without running code that they contain.

A pickle names functions, and reading it calls them. Here only those of `_allowed`
are called, which build the plain data that SevenNet, torch_geometric and this
package write. Users may trust files that they made themselves.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch.serialization import (
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
    safe_globals,
)

from sevennet_mf.errors import UserError

_TRUSTING: ContextVar[bool] = ContextVar('trusting', default=False)
# numpy 2 moved what numpy 1 writes, and each reads files of the other
NUMPY: Final[tuple[str, ...]] = ('numpy._core.multiarray', 'numpy.core.multiarray')
# of arrays of plain numbers and texts; not of objects
TYPE_CODES: Final[str] = f'{np.typecodes["AllInteger"]}{np.typecodes["AllFloat"]}?US'
# how torch names what it refuses, where the file itself cannot be asked
REFUSED: Final = re.compile(r"GLOBAL ([\w.]+)|<class '([\w.]+)'>")


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Within, files are read even if they contain code, if `trust` is true.

    False changes nothing.
    """
    token = _TRUSTING.set(trust or _TRUSTING.get())
    try:
        yield
    finally:
        _TRUSTING.reset(token)


def is_trusting() -> bool:
    """Whether files are trusted at present."""
    return _TRUSTING.get()


@contextmanager
def allowing() -> Iterator[None]:
    """Within, other readers also accept the data that SevenNet writes as safe."""
    with safe_globals([x for x in _allowed() if x not in get_safe_globals()]):
        yield


def read(path: str) -> Any:
    """Return what torch.save wrote to a file, its tensors on the CPU.

    A file that is something else, or truncated, may raise anything.

    Raises:
        UserError: The file contains more than plain data, unless within `trusting`.
    """
    if is_trusting():
        return torch.load(path, map_location='cpu', weights_only=False)
    with allowing():
        try:
            return torch.load(path, map_location='cpu', weights_only=True)
        except pickle.UnpicklingError as error:
            names = _asked_for(path, str(error))
            if not names:
                raise
    raise UserError(
        f'{path} contains {", ".join(names)}: reading it would run code of its '
        'author, which plain data do not need. If you made the file yourself, say '
        'so with --trust (in Python trust=True).'
    )


def check(path: str) -> None:
    """Refuse a file that another reader should not be given.

    Raises:
        UserError: As of `read`; also for a file that cannot be read here, because
            that reader may get further.
    """
    try:
        read(path)
    except UserError:
        raise
    except Exception as error:  # random bytes may raise anything in a pickle
        raise UserError(
            f'{path} was not written by SevenNet, or it is truncated. Remove it '
            'from the YAML or the folder.'
        ) from error


@cache
def _allowed() -> list[Callable | tuple[Callable, str]]:
    """What files may call, beside what torch itself knows as safe."""
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataset import AtomGraphDataset
    from torch_geometric.data.data import Data, DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    # as numpy itself names them to a pickle: _reconstruct and scalar
    makers: list[Any] = [x.__reduce__()[0] for x in (np.zeros(0), np.float64(0))]
    calls = [(f, f'{module}.{f.__name__}') for f in makers for module in NUMPY]
    types = {type(np.dtype(code)) for code in TYPE_CODES}
    graphs = [AtomGraphData, AtomGraphDataset, Data, DataEdgeAttr, DataTensorAttr]
    return [*calls, np.ndarray, np.dtype, *types, *graphs, GlobalStorage]


def _asked_for(path: str, message: str) -> list[str]:
    """The names in a file that are not allowed; none if it failed otherwise."""
    try:
        found = get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not today's format, or not written by torch
        found = []
    return sorted(found) or [a or b for a, b in REFUSED.findall(message)][:1]
