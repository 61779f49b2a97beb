"""What an error costs, against sums done by hand."""

from typing import Any

import numpy as np
import pytest
import sevenn._keys as KEY
import torch

from sevennet_mf.config.criteria import criterion_of, described
from sevennet_mf.config.training import LabelLosses
from sevennet_mf.errors import UserError

HOST = {KEY.LOSS: 'mse', KEY.LOSS_PARAM: {}}
ERROR = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]])


def cost(label: str, given: Any, error: torch.Tensor) -> np.ndarray:
    own = LabelLosses.model_validate({label: given})
    criterion = criterion_of(label, HOST, own)
    return criterion(error, torch.zeros_like(error)).numpy()


@pytest.mark.parametrize(
    ('given', 'wanted'),
    [
        ('mse', [9, 16, 0]),
        ('mae', [3, 4, 0]),
        ({'type': 'huber', 'delta': 0.5}, [0.5 * 2.75, 0.5 * 3.75, 0]),
        ('huber', [0.01 * (3 - 0.005), 0.01 * (4 - 0.005), 0]),
        ('l2mae', [5]),
    ],
)
def test_a_label_has_the_loss_that_it_was_given(given: Any, wanted: list) -> None:
    found = cost('force', given, ERROR)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-6)
    assert not found[1].any()


def test_the_norm_of_a_stress_is_that_of_the_tensor() -> None:
    parts = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])  # xx yy zz and shears
    xx, yy, zz, *shears = parts[0].tolist()
    tensor = np.diag([xx, yy, zz])
    for (i, j), value in zip(((0, 1), (1, 2), (0, 2)), shears, strict=True):
        tensor[i, j] = tensor[j, i] = value
    found = cost('stress', 'l2mae', parts)
    np.testing.assert_allclose(found, [[np.linalg.norm(tensor)]], rtol=1e-6)


def test_a_norm_of_zero_has_a_gradient() -> None:
    error = torch.zeros(2, 3, requires_grad=True)
    own = LabelLosses.model_validate({'force': 'l2mae'})
    criterion_of('force', HOST, own)(error, torch.zeros(2, 3)).sum().backward()
    assert error.grad is not None
    assert not error.grad.any()


def test_labels_without_a_loss_of_their_own_have_the_hosts() -> None:
    own = LabelLosses.model_validate({'force': 'mae'})
    error = torch.tensor([[2.0]])
    assert criterion_of('stress', HOST, own)(error, 0 * error).item() == 4
    assert [described(k, HOST, own) for k in ('force', 'stress')] == ['mae', 'mse']
    huber = LabelLosses.model_validate({'force': 'huber'})
    assert described('force', HOST, huber) == 'huber {delta: 0.01}'


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        ({KEY.LOSS: 'hubber'}, r"train\.loss .*'hubber'.*Did you mean 'huber'"),
        ({KEY.LOSS: 'huber', KEY.LOSS_PARAM: {'alpha': 1}}, 'loss_param.*alpha'),
        ({KEY.LOSS: 'huber', KEY.LOSS_PARAM: {'delta': -1}}, 'train.loss_param'),
    ],
)
def test_a_loss_that_is_none(config: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        criterion_of('energy', config, None)
