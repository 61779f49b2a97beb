"""The convolution as operators of torch: eager, scripted, differentiable twice.

    T(x, y, w, g) = sum g_target . C . y_edge w_edge x_source

is linear in each of its arguments, so that the derivative of one operator is the
next: `convolution`, `convolution_backward`, `convolution_double_backward`. The
plugin for LAMMPS registers the first two under the same names.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from sevennet_mf.kernels import library
from sevennet_mf.kernels.plan import HEAD

NAMESPACE: Final = 'sevennet_mf'
DTYPES: Final = (torch.float32, torch.float64)
_LIBRARY: Final = torch.library.Library(NAMESPACE, 'FRAGMENT')


@torch.library.custom_op(f'{NAMESPACE}::convolution', mutates_args=())
def convolution(
    x: Tensor,
    y: Tensor,
    w: Tensor,
    row: Tensor,
    source: Tensor,
    target: Tensor,
    n_targets: int,
    plan: Tensor,
) -> Tensor:
    """Sum the messages of all edges. float32 or float64, on a CPU.

    Args:
        x: (n_sources, dim_x).
        y: (n_edges, dim_y).
        w: (n_rows, n_weights).
        row: (n_edges,) int32, the row of `w` of each edge, with each row used at
            most twice; or empty: each edge has its own.
        source: (n_edges,) int32.
        target: (n_edges,) int32.
        n_targets: Number of rows of the result.
        plan: See plan.py.

    Returns:
        (n_targets, dim_out).

    Raises:
        RuntimeError: Shapes or indices do not match.
    """
    x, y, w = x.contiguous(), y.contiguous(), w.contiguous()
    graph = _graph(x, y, w, row, source, target, n_targets, plan)
    out = x.new_empty(n_targets, _dim_out(plan))
    library.call('forward', plan, graph, x, y, w, out)
    return out


@torch.library.custom_op(f'{NAMESPACE}::convolution_backward', mutates_args=())
def convolution_backward(
    g: Tensor,
    x: Tensor,
    y: Tensor,
    w: Tensor,
    row: Tensor,
    source: Tensor,
    target: Tensor,
    plan: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, y and w.

    Args:
        g: (n_targets, dim_out), the gradient of the output.
        x: As of `convolution`, like the others.
    """
    g, x, y, w = g.contiguous(), x.contiguous(), y.contiguous(), w.contiguous()
    graph = _graph(x, y, w, row, source, target, g.shape[0], plan)
    gx, gy, gw = torch.empty_like(x), torch.empty_like(y), torch.empty_like(w)
    library.call('backward', plan, graph, x, y, w, g, gx, gy, gw)
    return gx, gy, gw


@torch.library.custom_op(
    f'{NAMESPACE}::convolution_double_backward', mutates_args=()
)
def convolution_double_backward(
    ax: Tensor,
    ay: Tensor,
    aw: Tensor,
    g: Tensor,
    x: Tensor,
    y: Tensor,
    w: Tensor,
    row: Tensor,
    source: Tensor,
    target: Tensor,
    plan: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of g, x, y and w.

    Args:
        ax: The gradient of the gradient of x that `convolution_backward` returns.
        ay: Of that of y.
        aw: Of that of w.
        g: As of `convolution_backward`, like the others.
    """
    ax, ay, aw = ax.contiguous(), ay.contiguous(), aw.contiguous()
    g, x, y, w = g.contiguous(), x.contiguous(), y.contiguous(), w.contiguous()
    graph = _graph(x, y, w, row, source, target, g.shape[0], plan)
    gg, gx = torch.empty_like(g), torch.empty_like(x)
    gy, gw = torch.empty_like(y), torch.empty_like(w)
    library.call(
        'double_backward', plan, graph, x, y, w, g, ax, ay, aw, gx, gy, gw, gg
    )
    return gg, gx, gy, gw


def deployed_convolution(
    x: Tensor,
    y: Tensor,
    w: Tensor,
    table: Tensor,
    step: float,
    source: Tensor,
    target: Tensor,
    n_targets: int,
    plan: Tensor,
) -> Tensor:
    """Do what the pair styles for LAMMPS do, for checks in Python.

    As `convolution`, with int64 indices. The gradient of a tabulated one cannot be
    differentiated.

    Args:
        w: Where `table` is not empty, (n_edges,) lengths in Å.
        table: Polynomials of the lengths that replace the weights (see
            convolution.h); or empty.
        step: Å of length for each polynomial.
    """
    source, target = source.to(torch.int32), target.to(torch.int32)
    if not table.numel():
        row = source.new_empty(0)
        return convolution(x, y, w, row, source, target, n_targets, plan)
    return _Tabulated.apply(x, y, w, table, step, source, target, n_targets, plan)


class _Tabulated(torch.autograd.Function):
    """The convolution whose weights are read from a table of lengths."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        r: Tensor,
        table: Tensor,
        step: float,
        source: Tensor,
        target: Tensor,
        n_targets: int,
        plan: Tensor,
    ) -> Tensor:
        x, y, r = x.contiguous(), y.contiguous(), r.contiguous()
        ctx.save_for_backward(x, y, r, table, source, target, plan)
        ctx.step = step
        graph = library.graph(source, target, x.shape[0], n_targets)
        out = x.new_empty(n_targets, _dim_out(plan))
        intervals = table.shape[0]
        library.call(
            'forward_table', plan, graph, x, y, r, table, intervals, step, out
        )
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, y, r, table, source, target, plan = ctx.saved_tensors
        g = g.contiguous()
        graph = library.graph(source, target, x.shape[0], g.shape[0])
        gx, gy, gr = (torch.empty_like(a) for a in (x, y, r))
        numbers = table.shape[0], ctx.step
        library.call(
            'backward_table', plan, graph, x, y, r, table, *numbers, g, gx, gy, gr
        )
        return gx, gy, gr, None, None, None, None, None, None


def register_deployed() -> None:
    """Offer `deployed_convolution` to TorchScript, unless the plugin has done so.

    LAMMPS may run in this process, and provides the operator of that name.
    """
    if hasattr(getattr(torch.ops, NAMESPACE), 'deployed_convolution'):
        return
    _LIBRARY.define(
        'deployed_convolution(Tensor x, Tensor y, Tensor w, Tensor table, '
        'float step, Tensor source, Tensor target, int n_targets, Tensor plan) '
        '-> Tensor'
    )
    _LIBRARY.impl(
        'deployed_convolution', deployed_convolution, 'CompositeImplicitAutograd'
    )


@torch.library.custom_op(f'{NAMESPACE}::partners', mutates_args=())
def partners(source: Tensor, target: Tensor, vec: Tensor, n_atoms: int) -> Tensor:
    """Return the edge in the other direction for each edge, or the edge itself.

    Args:
        source: (n_edges,) int32.
        target: (n_edges,) int32.
        vec: (n_edges, 3) Å.
        n_atoms: Number of atoms.

    Returns:
        (n_edges,) int64.
    """
    vec = vec.detach().contiguous()
    found = torch.empty_like(source)
    graph = library.graph(source, target, n_atoms, n_atoms)
    library.find_partners(graph, vec, found)
    return found.to(torch.int64)


def _graph(
    x: Tensor,
    y: Tensor,
    w: Tensor,
    row: Tensor,
    source: Tensor,
    target: Tensor,
    n_targets: int,
    plan: Tensor,
) -> library.Graph:
    """Check what the kernel cannot see behind its pointers."""
    if plan.dtype != torch.float64 or plan.numel() < HEAD:
        raise RuntimeError('the plan of a convolution has no header')
    n_edges, shared = source.numel(), row.numel() > 0
    wanted = ((None, 1), (n_edges, 2), (None if shared else n_edges, 4))
    for array, (length, place) in zip((x, y, w), wanted, strict=True):
        if array.dtype != x.dtype or array.dtype not in DTYPES:
            raise RuntimeError(f'the fused kernel does not support {array.dtype}')
        if array.shape[-1] != int(plan[place]) or length not in (None, len(array)):
            raise RuntimeError(f'a {tuple(array.shape)} array does not fit the plan')
    for index in (source, target, row):
        if index.dtype != torch.int32 or len(index) not in (0, n_edges):
            raise RuntimeError('indices must be int32, one for each edge')
    n_rows = len(w) if shared else 0
    return library.graph(
        source, target, x.shape[0], n_targets, row if shared else None, n_rows
    )


def _dim_out(plan: Tensor) -> int:
    return int(plan[3])


def _keep_forward(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, y, w, row, source, target, _, plan = inputs
    ctx.save_for_backward(x, y, w, row, source, target, plan)


def _forward_gradient(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, y, w, *rest = ctx.saved_tensors
    gradients = convolution_backward(g, x, y, w, *rest)
    return (*gradients, None, None, None, None, None)


def _keep_backward(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(*inputs)


def _backward_gradient(
    ctx: Any, ax: Tensor, ay: Tensor, aw: Tensor
) -> tuple[Tensor | None, ...]:
    gradients = convolution_double_backward(ax, ay, aw, *ctx.saved_tensors)
    return (*gradients, None, None, None, None)


convolution.register_autograd(_forward_gradient, setup_context=_keep_forward)
convolution_backward.register_autograd(
    _backward_gradient, setup_context=_keep_backward
)


@convolution.register_fake
def _(
    x: Tensor,
    y: Tensor,
    w: Tensor,
    row: Tensor,
    source: Tensor,
    target: Tensor,
    n_targets: int,
    plan: Tensor,
) -> Tensor:
    raise NotImplementedError('torch.compile does not trace the fused convolution')
