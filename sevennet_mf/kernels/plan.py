"""A convolution as numbers: what the kernel needs to know about its irreps."""

from __future__ import annotations

from typing import Any, Final

import torch
from e3nn.o3 import Irreps, wigner_3j
from e3nn.o3 import TensorProduct as E3nnTensorProduct

MAX_L: Final = 4
HEAD: Final = 5  # numbers before the first path
LANES_BYTES: Final = 64  # channels are padded to this, see convolution.cpp


def plan_of(product: E3nnTensorProduct) -> torch.Tensor:
    """Return the plan of a tensor product of e3nn.

    It must have a weight per edge, path and channel.

    Returns:
        (n,) float64: number of paths, dimensions of x, y and the output, number of
        weights; then for each path its channels, 2l+1 of x, y and output, their
        offsets, and the Clebsch-Gordan coefficients times e3nn's path weight.

    Raises:
        ValueError: The kernel does not support it; the message is the reason.
    """
    paths = [_path(product, instruction) for instruction in product.instructions]
    head = [
        len(paths),
        product.irreps_in1.dim,
        product.irreps_in2.dim,
        product.irreps_out.dim,
        product.weight_numel,
    ]
    head_tensor = torch.tensor(head, dtype=torch.float64)
    return torch.cat([head_tensor, *paths])


def padded_weights(plan: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the place of each weight in a row of a table, and the width: int64."""
    lanes = LANES_BYTES // torch.empty(0, dtype=dtype).element_size()
    places, start, at = [], 0, HEAD
    for _ in range(int(plan[0])):
        mul, n1, n2, n3 = (int(n) for n in plan[at : at + 4])
        places.append(torch.arange(start, start + mul))
        start += -(-mul // lanes) * lanes
        at += 7 + n1 * n2 * n3
    places.append(torch.tensor([start]))
    return torch.cat(places)


def _path(product: E3nnTensorProduct, instruction: Any) -> torch.Tensor:
    mode, i, j, k = (
        instruction.connection_mode,
        instruction.i_in1,
        instruction.i_in2,
        instruction.i_out,
    )
    mul, x = product.irreps_in1[i]
    mul_filter, y = product.irreps_in2[j]
    _, out = product.irreps_out[k]
    if mode != 'uvu' or mul_filter != 1 or not instruction.has_weight:
        raise ValueError(f'its connection {mode!r} is not uvu with a weight')
    if product.shared_weights:
        raise ValueError('its edges share their weights')
    if max(x.l, y.l, out.l) > MAX_L:
        raise ValueError(f'its l is greater than {MAX_L}')
    if sum(other.i_out == k for other in product.instructions) > 1:
        raise ValueError('two paths lead to the same output')
    c = wigner_3j(x.l, y.l, out.l, dtype=torch.float64) * instruction.path_weight
    numbers = [mul, x.dim, y.dim, out.dim]
    numbers += [_start(product.irreps_in1, i), _start(product.irreps_in2, j)]
    numbers += [_start(product.irreps_out, k)]
    head = torch.tensor(numbers, dtype=torch.float64)
    return torch.cat([head, c.reshape(-1)])


def _start(irreps: Irreps, index: int) -> int:
    return int(irreps.slices()[index].start)
