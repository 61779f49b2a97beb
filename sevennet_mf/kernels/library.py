"""The compiled kernel: found and checked, or absent for a stated reason."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import Any, Final

import torch

from sevennet_mf.errors import UserError

# off (0, false, no): models run with e3nn; always: SevenNet's own training has the
# kernel as well, where this package is registered
SWITCH: Final = 'SEVENNET_MF_FUSED'
# plain, avx2 or avx512 instead of the best that the processor has
INSTRUCTION_SET: Final = 'SEVENNET_MF_INSTRUCTION_SET'
VERSION: Final = 1
REBUILD: Final = 'Install sevennet_mf again, with a C++ compiler available.'
_OFF: Final = ('0', 'off', 'false', 'no')
_ON: Final = ('', '1', 'on', 'true', 'yes')
ALWAYS: Final = 'always'


class Graph(ctypes.Structure):
    """`sevennet_mf::EdgeList` of convolution.h."""

    _fields_ = (
        ('n_sources', ctypes.c_int64),
        ('n_targets', ctypes.c_int64),
        ('n_edges', ctypes.c_int64),
        ('source', ctypes.c_void_p),
        ('target', ctypes.c_void_p),
        ('row', ctypes.c_void_p),
        ('n_rows', ctypes.c_int64),
        ('threads', ctypes.c_int),
    )


def why_not() -> str | None:
    """Return why the fused convolution is not used here, or None where it is.

    Raises:
        UserError: The library cannot be loaded or has another version, the processor
            lacks the instruction set, or the value of the switch is unknown.
    """
    if _switch() in _OFF:
        return f'it is turned off (--e3nn or {SWITCH})'
    if path() is None:
        return 'it was not compiled when sevennet_mf was installed (no C++ compiler)'
    library()
    return None


def is_asked_for() -> bool:
    """Whether the kernel is wanted where SevenNet trains alone."""
    return _switch() == ALWAYS


def check_environment(is_used: bool) -> None:
    """Raise the errors of `why_not` now rather than later.

    Args:
        is_used: Whether the kernel is wanted even if nobody asks for it.
    """
    if is_asked_for() or is_used:
        why_not()


def _switch() -> str:
    value = os.environ.get(SWITCH, '').strip().lower()
    if value not in (*_OFF, *_ON, ALWAYS):
        raise UserError(f'{SWITCH} must be on, off or always, got {value!r}.')
    return value


def path() -> Path | None:
    """Return the compiled library, or None if it was not compiled."""
    found = sorted(Path(__file__).parent.glob('_convolution*.so'))
    return found[0] if found else None


def instruction_set() -> str:
    """Return the instruction set in use: 'avx512', 'avx2' or 'plain'."""
    return str(library().sevennet_mf_instruction_set().decode())


@functools.cache
def library() -> Any:
    """Return the functions of library.cpp; the library is loaded once."""
    file = path()
    if file is None:
        raise UserError(f'the fused convolution is not available. {REBUILD}')
    try:
        loaded = ctypes.CDLL(str(file))
        version = loaded.sevennet_mf_version()
    except (OSError, AttributeError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{file} cannot be used: {reason}. {REBUILD}') from error
    if version != VERSION:
        raise UserError(
            f'{file} has version {version}, but this sevennet_mf needs {VERSION}. '
            f'{REBUILD}'
        )
    for name in ('forward', 'backward', 'double_backward'):
        getattr(loaded, f'sevennet_mf_{name}').restype = ctypes.c_char_p
    for name in ('forward_table', 'backward_table', 'partners', 'instruction_set'):
        getattr(loaded, f'sevennet_mf_{name}').restype = ctypes.c_char_p
    _choose(loaded)
    return loaded


def _choose(loaded: Any) -> None:
    asked = os.environ.get(INSTRUCTION_SET, '').strip().lower()
    if asked and not loaded.sevennet_mf_choose(asked.encode()):
        raise UserError(
            f'{INSTRUCTION_SET} must be plain, avx2 or avx512, and supported by '
            f'this processor, got {asked!r}.'
        )


def graph(
    source: torch.Tensor,
    target: torch.Tensor,
    n_sources: int,
    n_targets: int,
    row: torch.Tensor | None = None,
    n_rows: int = 0,
) -> Graph:
    """Return what all arrays of a call have in common.

    Args:
        source: (n_edges,) int32.
        target: (n_edges,) int32.
        n_sources: Number of atoms that messages come from.
        n_targets: Number of atoms that messages go to.
        row: (n_edges,) int32, the row of weights of each edge; None: each has its
            own.
        n_rows: Number of rows of weights.
    """
    source, target = source.contiguous(), target.contiguous()
    row = None if row is None else row.contiguous()
    found = Graph(
        n_sources,
        n_targets,
        source.numel(),
        source.data_ptr(),
        target.data_ptr(),
        None if row is None else row.data_ptr(),
        n_rows,
        torch.get_num_threads(),
    )
    found.alive = (source, target, row)  # as long as the pointers are used
    return found


def call(
    name: str,
    plan: torch.Tensor,
    graph: Graph,
    *arguments: torch.Tensor | int | float | None,
) -> None:
    """Call a function of the library, with tensors passed as pointers.

    Args:
        name: Of the function, without its prefix.
        plan: (n,) float64, see plan.py.
        graph: Of the call.
        arguments: Tensors, contiguous and of one dtype, and numbers.
    """
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    function = getattr(library(), f'sevennet_mf_{name}')
    wrong = function(
        ctypes.c_int(8 * tensors[0].element_size()),
        ctypes.c_void_p(plan.data_ptr()),
        ctypes.c_int64(plan.numel()),
        ctypes.byref(graph),
        *(_argument(a) for a in arguments),
    )
    _refuse(wrong)


def _refuse(wrong: bytes | None) -> None:
    if wrong:
        reason = wrong.decode()
        raise RuntimeError(f'the fused convolution refuses its input: {reason}')


def find_partners(graph: Graph, vec: torch.Tensor, found: torch.Tensor) -> None:
    """Fill `found` with the edge in the other direction of each edge.

    Args:
        graph: Of the edges.
        vec: (n_edges, 3) Å.
        found: (n_edges,) int32, changed in place.
    """
    wrong = library().sevennet_mf_partners(
        ctypes.c_int(8 * vec.element_size()),
        ctypes.byref(graph),
        ctypes.c_void_p(vec.data_ptr()),
        ctypes.c_void_p(found.data_ptr()),
    )
    _refuse(wrong)


def _argument(value: torch.Tensor | int | float | None) -> Any:
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_double(value)
    return ctypes.c_int64(value) if value is not None else ctypes.c_void_p(None)
