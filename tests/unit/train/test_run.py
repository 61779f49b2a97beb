"""What a run says before it trains."""

import warnings
from typing import Any

import pytest
import sevenn._const as const
import sevenn._keys as KEY
import torch
from sevenn.logger import Logger

from sevennet_mf.train.run import _tell_default_model


@pytest.mark.parametrize(
    ('changed', 'is_told'),
    [({}, True), ({KEY.BATCH_SIZE: 2}, True), ({KEY.LMAX: 2}, False)],
)
def test_a_model_of_the_default_size(changed: dict[str, Any], is_told: bool) -> None:
    """Without a `model` section, that is."""
    model = torch.nn.Linear(4, 2)
    model.bias.requires_grad_(False)
    config = {**const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG, **changed}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        _tell_default_model(Logger(), model, config)
    words = [str(line.message) for line in told]
    assert len(words) == is_told
    for line in words:
        assert 'default size: 8 weights (channel 32, lmax 1,' in line
