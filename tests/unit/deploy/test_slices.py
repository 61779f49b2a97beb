"""Many slices become one split, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sevennet_mf.deploy.slices import split_slices


def paths(x: torch.Tensor) -> torch.Tensor:
    """As e3nn reads weights: all rows, then some columns."""
    return x[:, 0:2].sum(1) * x[:, 2:3].sum(1) + x[:, 4:7].sum(1)


def narrowed(x: torch.Tensor) -> torch.Tensor:
    return x.narrow(1, 0, 3).sum(1) * x.narrow(1, 3, 2).sum(1)


def twice_the_same(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0:2].sum(1) * x[:, 0:2].exp().sum(1) + x[:, 2:4].sum(1)


def to_the_end(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0:3].sum(1) * x[:, 3:].sum(1)


def overlapping(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0:3].sum(1) * x[:, 2:5].sum(1)


def written_into(x: torch.Tensor) -> torch.Tensor:
    out = x.new_zeros(x.shape[0], 5)
    out[:, 0:2] = x.exp().narrow(1, 0, 2)
    out[:, 2:5] = x.cos().narrow(1, 2, 3)
    return out.sum(1)


def changed_in_place(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    y[:, 0:2].mul_(3.0)
    return y[:, 0:2].sum(1) * y[:, 2:4].sum(1)


CASES: list[tuple[Callable[[torch.Tensor], torch.Tensor], bool]] = [
    (paths, True),
    (narrowed, True),
    (twice_the_same, True),
    (to_the_end, False),
    (overlapping, False),
    (written_into, False),
    (changed_in_place, False),
]


class Sliced(torch.nn.Module):
    """A function of something that is computed, as in a model."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = torch.jit.script(function)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x.sin()).sum()


def gradient(module: torch.nn.Module, n_rows: int) -> tuple[float, torch.Tensor]:
    x = torch.linspace(-1, 1, 7 * n_rows).reshape(n_rows, 7).requires_grad_()
    value = module(x)
    return float(value.detach()), torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize(
    ('function', 'splits'), CASES, ids=lambda v: getattr(v, '__name__', '')
)
def test_values_and_gradients_stay(
    function: Callable[[torch.Tensor], torch.Tensor], splits: bool
) -> None:
    module = torch.jit.freeze(torch.jit.script(Sliced(function)).eval())
    torch._C._jit_pass_inline(module.graph)
    wanted = [gradient(module, n) for n in (0, 1, 4)]
    split_slices(module.graph)
    assert ('aten::split_with_sizes' in str(module.graph)) == splits
    for n, (value, slope) in zip((0, 1, 4), wanted, strict=True):
        again, own = gradient(module, n)
        assert again == pytest.approx(value, abs=1e-6)
        torch.testing.assert_close(own, slope)


def test_whole_slices_go() -> None:
    def whole(x: torch.Tensor) -> torch.Tensor:
        return x[:].sum(1)

    module = torch.jit.freeze(torch.jit.script(Sliced(whole)).eval())
    torch._C._jit_pass_inline(module.graph)
    assert split_slices(module.graph) == 1
    assert 'aten::slice' not in str(module.graph)
    assert gradient(module, 3)[1].shape == (3, 7)
