"""State dicts in the host's format, unchanged to the last bit."""

from typing import Any

import pytest
import sevenn._keys as KEY
import torch
from e3nn.o3 import Irreps
from helpers import randomise
from sevenn.nn.linear import IrrepsLinear

from sevennet_mf.model import host_weight
from sevennet_mf.model.linear import FidelityLinear

IRREPS_IN = Irreps('3x0e+2x1o+2x0e')
IRREPS_OUT = Irreps('4x0e+2x1o+3x0e')
CASES = [(n, biases) for n in (2, 3, 5) for biases in (False, True)]


def made(kind: type[IrrepsLinear], n: int, biases: bool) -> Any:
    return kind(
        IRREPS_IN,
        IRREPS_OUT,
        KEY.NODE_FEATURE,
        num_modalities=n,
        lazy_layer_instantiate=False,
        biases=biases,
    )


def ours(n: int = 2, biases: bool = False) -> FidelityLinear:
    return made(FidelityLinear, n, biases)


def hosts(n: int = 2, biases: bool = False) -> IrrepsLinear:
    """The host's modality layer with random weights and biases."""
    layer: IrrepsLinear = made(IrrepsLinear, n, biases)
    assert layer.linear is not None
    with torch.no_grad():
        for parameter in layer.linear.parameters():
            parameter.normal_()
    return layer


def output(layer: IrrepsLinear, fidelity: int) -> torch.Tensor:
    layer._is_batch_data = False
    x = torch.randn(6, IRREPS_IN.dim, generator=torch.Generator().manual_seed(2))
    one_hot = torch.eye(layer.num_modalities)[fidelity]
    data = layer({KEY.NODE_FEATURE: x, KEY.MODAL_ATTR: one_hot})
    return data[KEY.NODE_FEATURE].detach()


@pytest.mark.parametrize(('n', 'biases'), CASES)
def test_from_the_host_and_back_to_the_last_bit(n: int, biases: bool) -> None:
    host = hosts(n, biases)
    layer = ours(n, biases)
    layer.load_state_dict(host.state_dict(), strict=True)
    for fidelity in range(n):
        torch.testing.assert_close(output(layer, fidelity), output(host, fidelity))

    state, wanted = layer.state_dict(), host.state_dict()
    assert set(state) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize(('n', 'biases'), CASES)
def test_to_the_host_and_back_to_the_last_bit(n: int, biases: bool) -> None:
    layer = ours(n, biases)
    randomise(layer)
    host = hosts(n, biases)
    host.load_state_dict(layer.state_dict(), strict=True)
    for fidelity in range(n):
        torch.testing.assert_close(output(host, fidelity), output(layer, fidelity))

    twin = ours(n, biases)
    twin.load_state_dict(host.state_dict(), strict=True)
    for name, parameter in layer.named_parameters():
        assert torch.equal(twin.get_parameter(name), parameter), name


def test_inside_a_model_the_prefix_is_kept() -> None:
    model = torch.nn.ModuleDict({'a': ours(), 'b': ours(3)})
    state = model.state_dict()
    assert 'a.linear.weight' in state
    assert not [name for name in state if '.bias.' in name or 'common' in name]
    twin = torch.nn.ModuleDict({'a': ours(), 'b': ours(3)})
    twin.load_state_dict(state, strict=True)
    assert torch.equal(twin['b'].weight, model['b'].weight)


def test_loading_leaves_the_given_state_dict_alone() -> None:
    state = hosts().state_dict()
    before = {name: value.clone() for name, value in state.items()}
    ours().load_state_dict(state)
    assert list(state) == list(before)
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_a_state_dict_is_a_snapshot_of_the_rows() -> None:
    layer = ours()
    before = layer.state_dict()['linear.weight']
    with torch.no_grad():
        layer.bias[0].add_(1.0)
    assert not torch.equal(layer.state_dict()['linear.weight'], before)


def test_another_number_of_fidelities_is_refused_with_numbers() -> None:
    # W has 5 * 7 scalar and 2 * 2 vector weights, each fidelity 7 more
    with pytest.raises(RuntimeError, match=r'linear\.weight has 60 numbers') as e:
        ours(2).load_state_dict(hosts(3).state_dict())
    assert '2 fidelities need 53' in str(e.value)


def test_the_hosts_plain_layer_is_refused() -> None:
    plain = IrrepsLinear(
        IRREPS_IN,
        IRREPS_OUT,
        KEY.NODE_FEATURE,
        lazy_layer_instantiate=False,
        biases=False,
    )
    with pytest.raises(RuntimeError, match='has 39 numbers; 2 fidelities need 53'):
        ours().load_state_dict(plain.state_dict())


def test_biases_only_one_side_has_are_refused() -> None:
    with pytest.raises(RuntimeError, match='size mismatch for common_bias'):
        ours(2, False).load_state_dict(hosts(2, True).state_dict())


def test_a_missing_weight_is_reported() -> None:
    state = hosts().state_dict()
    del state['linear.weight']
    with pytest.raises(RuntimeError, match='Missing key'):
        ours().load_state_dict(state)


def test_rows_and_flat_weights_are_inverse() -> None:
    layer = ours(3)
    rows = torch.arange(21.0).reshape(3, 7)
    flat = host_weight.join(layer, rows)
    # by block of the output: all fidelities' 4 scalars, then all their 3
    assert flat[:8].tolist() == [0, 1, 2, 3, 7, 8, 9, 10]
    assert flat[12:15].tolist() == [4, 5, 6]
    assert torch.equal(host_weight.split(layer, flat), rows)
