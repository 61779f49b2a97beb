"""What tests keep of e3nn's and torch's work is what these would do again."""

from __future__ import annotations

import inspect

import kept_code
import pytest
import torch
from e3nn import o3
from helpers import ARCHITECTURES, build, model_config
from torch import fx


def model() -> torch.nn.Module:
    return build(model_config('lora', **ARCHITECTURES['parity']))


def test_a_model_is_the_one_that_e3nn_makes() -> None:
    with pytest.MonkeyPatch.context() as patch:
        kept_code.forget(patch)
        wanted = model()
    found = [model(), model()][1]  # of copies only
    names = [[name for name, _ in one.named_modules()] for one in (found, wanted)]
    assert names[0] == names[1]
    written = 0
    for one, other in zip(found.modules(), wanted.modules(), strict=True):
        assert type(one).__name__ == type(other).__name__
        if isinstance(other, fx.GraphModule):
            assert one.code == other.code
            written += 1
    assert written > 10
    state = wanted.state_dict()
    assert list(found.state_dict()) == list(state)
    for name, value in found.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_models_share_no_tensor() -> None:
    one, other = (o3.FullTensorProduct('1o', '1o') for _ in range(2))
    codes = [product._compiled_main_left_right for product in (one, other)]
    assert codes[0].code == codes[1].code
    before = [buffer.clone() for buffer in codes[1].buffers()]
    assert before
    for buffer in codes[0].buffers():
        buffer.zero_()
    for now, then in zip(codes[1].buffers(), before, strict=True):
        assert torch.equal(now, then)


def test_other_arguments_have_other_code() -> None:
    for n in (2, 3, 2):
        assert o3.Linear(f'{n}x0e', f'{n}x0e')(torch.ones(1, n)).shape == (1, n)
    for dtype in (torch.float64, torch.float32):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            product = o3.FullTensorProduct('1o', '1o')
        finally:
            torch.set_default_dtype(before)
        code = product._compiled_main_left_right
        assert {buffer.dtype for buffer in code.buffers()} == {dtype}


def test_the_lines_of_a_source_are_the_callers_own() -> None:
    lines, first = inspect.getsourcelines(model)
    assert lines[0] == 'def model() -> torch.nn.Module:\n'
    lines.clear()
    assert len(inspect.getsourcelines(model)[0]) == 2
    assert inspect.getsourcelines(model)[1] == first
