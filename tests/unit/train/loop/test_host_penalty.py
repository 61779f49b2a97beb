"""The weight of SevenNet's own regularisation, converted to ours, on numbers.

Its branch omni-train adds w/2 times the sum of squares of the rows of all modalities
as they are in the file, without those of the output block, at every step.
"""

from __future__ import annotations

import pytest
import torch
from helpers import build, host_config, model_config, randomise
from sevenn.nn.linear import IrrepsLinear

from sevennet_mf.config.host_checks import Config
from sevennet_mf.model.build import fidelity_layers
from sevennet_mf.train.loop.loss import PRESENT, ThetaPenalty

NAMES = ('pbe', 'r2scan', 'hse')
OUTPUT = 'reduce_input_to_hidden'
WEIGHT = 3e-5


def of_host(config: Config, state: dict[str, torch.Tensor]) -> dict[str, float]:
    """w/2 times the sum of squares of each layer's rows, by the host's layers."""
    model = build(host_config(config))
    model.load_state_dict(state)
    found = {}
    for name, layer in model._modules.items():
        if isinstance(layer, IrrepsLinear) and layer.num_modalities > 1:
            views = list(layer.linear.weight_views())
            assert views[-1].shape[0] == len(NAMES)
            found[name] = WEIGHT / 2 * float(views[-1].detach().square().sum())
    return found


@pytest.mark.parametrize(
    ('sites', 'is_equal'),
    [
        (['self_interaction_1'], True),  # each has `channel` scalar inputs
        (['self_interaction_1', 'self_interaction_2', 'output'], False),
    ],
)
def test_the_converted_weight_gives_the_same(
    sites: list[str], is_equal: bool
) -> None:
    config = model_config(names=NAMES, fidelity={'sites': sites})
    ours = build(config)
    randomise(ours)
    ours.requires_grad_(False)
    theirs = of_host(config, ours.state_dict())
    assert len(theirs) == len(fidelity_layers(ours)) > 1
    converted = {}
    for name, layer in ours._modules.items():
        if name not in theirs:
            continue
        n = layer.irreps_in.count('0e')
        factor = WEIGHT * (n + len(NAMES)) / 2  # what docs/training.md says
        own = [layer.effective_theta(f) for f in range(len(NAMES))]
        squares = sum(float(t.square().sum()) for terms in own for t in terms)
        converted[name] = factor * squares
        assert converted[name] == pytest.approx(theirs[name], rel=1e-5)
    penalised = sum(v for name, v in theirs.items() if name != OUTPUT)
    assert (OUTPUT in theirs) is not is_equal
    if is_equal:  # one number for all layers, as train.fidelity.regularization is
        n = config['channel']
        lambda_r = WEIGHT * (n + len(NAMES)) / 2
        batch = {PRESENT: torch.ones(len(NAMES), dtype=torch.bool)}
        loss = ThetaPenalty().get_loss(batch, ours)
        assert lambda_r * float(loss) == pytest.approx(penalised, rel=1e-5)
