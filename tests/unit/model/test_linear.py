"""FidelityLinear and its richer forms, one layer at a time."""

import io
from typing import Any

import e3nn.util.jit
import pytest
import sevenn._keys as KEY
import torch
from e3nn.o3 import Irreps
from helpers import ENCODINGS, randomise
from sevenn.nn.linear import IrrepsLinear

from sevennet_mf.model.encodings import fidelity_linear
from sevennet_mf.model.linear import FidelityLinear, scalar_of_component

# several blocks of one irrep, and one (0o) that nothing leads to
IRREPS_IN = Irreps('3x0e+2x1o+2x0e+1x2e')
IRREPS_OUT = Irreps('4x0e+2x0o+2x1o+3x0e+2x2e')
N_ATOMS = (3, 1, 4)  # of each graph in the batch
FIDELITIES = (1, 0, 1)


def layer(
    encoding: str = 'bias', n: int = 2, biases: bool = False, **kwargs: Any
) -> FidelityLinear:
    torch.manual_seed(5)
    made = fidelity_linear(
        encoding,
        2,
        irreps_in=kwargs.pop('irreps_in', IRREPS_IN),
        irreps_out=kwargs.pop('irreps_out', IRREPS_OUT),
        data_key_in=KEY.NODE_FEATURE,
        num_modalities=n,
        lazy_layer_instantiate=False,
        biases=biases,
        **kwargs,
    )
    return made


def random_layer(encoding: str, n: int = 2, biases: bool = False) -> FidelityLinear:
    made = layer(encoding, n, biases)
    randomise(made)
    return made


def batch(n: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(sum(N_ATOMS), IRREPS_IN.dim, generator=generator)
    one_hot = torch.eye(n)[list(FIDELITIES)]
    graph_of_atom = torch.repeat_interleave(torch.arange(3), torch.tensor(N_ATOMS))
    return {
        KEY.NODE_FEATURE: x,
        KEY.MODAL_ATTR: one_hot,
        KEY.BATCH: graph_of_atom,
    }


def run(module: Any, data: dict[str, torch.Tensor]) -> torch.Tensor:
    return module(dict(data))[KEY.NODE_FEATURE].detach()


def reloaded(scripted: Any) -> Any:
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def one_graph_at_a_time(module: Any, data: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the module gives without a batch, as ASE and LAMMPS call it."""
    parts = []
    for i in range(len(N_ATOMS)):
        single = {
            KEY.NODE_FEATURE: data[KEY.NODE_FEATURE][data[KEY.BATCH] == i],
            KEY.MODAL_ATTR: data[KEY.MODAL_ATTR][i],
        }
        parts.append(run(module, single))
    return torch.cat(parts)


@pytest.mark.parametrize('n', [2, 3])
@pytest.mark.parametrize('biases', [False, True])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_form_is_the_same(encoding: str, biases: bool, n: int) -> None:
    eager = random_layer(encoding, n, biases).eval()
    data = batch(n)
    wanted = run(eager, data)
    scripted = e3nn.util.jit.script(eager)
    frozen = torch.jit.freeze(e3nn.util.jit.script(eager))
    from_state = layer(encoding, n, biases).eval()
    from_state.load_state_dict(eager.state_dict(), strict=True)
    together = {
        'scripted': scripted,
        'frozen': frozen,
        'scripted, saved and loaded': reloaded(scripted),
        'frozen, saved and loaded': reloaded(frozen),
        'from its state dict': from_state,
    }
    for form, module in together.items():
        torch.testing.assert_close(
            run(module, data), wanted, msg=lambda m, form=form: f'{form}: {m}'
        )

    eager._is_batch_data = False
    alone = e3nn.util.jit.script(eager)
    for form, module in (
        ('eager', eager),
        ('scripted', alone),
        ('frozen', torch.jit.freeze(e3nn.util.jit.script(eager))),
        ('saved and loaded', reloaded(alone)),
    ):
        torch.testing.assert_close(
            one_graph_at_a_time(module, data),
            wanted,
            msg=lambda m, form=form: f'{form}, one graph at a time: {m}',
        )


@pytest.mark.parametrize('biases', [False, True])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_untrained_is_the_hosts_plain_layer(encoding: str, biases: bool) -> None:
    ours = layer(encoding, 3, biases)
    with torch.no_grad():
        ours.common_bias.normal_()
    host = IrrepsLinear(
        IRREPS_IN,
        IRREPS_OUT,
        KEY.NODE_FEATURE,
        lazy_layer_instantiate=False,
        biases=biases,
    )
    folded = ours.fold(None).linear
    assert host.linear is not None
    assert folded is not None
    with torch.no_grad():
        host.linear.weight.copy_(folded.weight)
        if biases:
            host.linear.bias.copy_(ours.common_bias)
    data = batch(3)
    torch.testing.assert_close(run(ours, data), run(host, data))


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('n', [2, 3])
def test_untrained_is_the_hosts_modality_layer(encoding: str, n: int) -> None:
    ours = layer(encoding, n)
    host = IrrepsLinear(
        IRREPS_IN,
        IRREPS_OUT,
        KEY.NODE_FEATURE,
        num_modalities=n,
        lazy_layer_instantiate=False,
        biases=False,
    )
    state = host.state_dict()
    shared = ours.weight.detach()
    state['linear.weight'] = torch.zeros_like(state['linear.weight'])
    state['linear.weight'][: len(shared)] = shared
    host.load_state_dict(state)
    data = batch(n)
    torch.testing.assert_close(run(ours, data), run(host, data), atol=1e-6, rtol=0)


@pytest.mark.parametrize('biases', [False, True])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_fold_is_the_layer_for_one_fidelity(encoding: str, biases: bool) -> None:
    ours = random_layer(encoding, 3, biases).double()
    data = {
        k: v.double() if v.is_floating_point() else v for k, v in batch(3).items()
    }
    x = data[KEY.NODE_FEATURE]
    outputs = []
    for fidelity in range(3):
        data[KEY.MODAL_ATTR] = torch.eye(3).double()[[fidelity] * 3]
        wanted = run(ours, data)
        plain = ours.fold(fidelity)
        assert type(plain) is IrrepsLinear
        outputs.append(run(plain, {KEY.NODE_FEATURE: x}))
        torch.testing.assert_close(outputs[-1], wanted, atol=1e-12, rtol=1e-12)
    assert not torch.allclose(outputs[0], outputs[1])

    ours.use_theta = False
    plain = ours.fold(None)
    wanted = run(ours, data)
    torch.testing.assert_close(
        run(plain, {KEY.NODE_FEATURE: x}), wanted, atol=1e-12, rtol=1e-12
    )


def test_fold_copies_and_keeps_the_batch_flag() -> None:
    ours = random_layer('bias')
    ours._is_batch_data = False
    plain = ours.fold(0)
    assert plain._is_batch_data is False
    assert plain.linear is not None
    before = ours.state_dict()['linear.weight'].clone()
    with torch.no_grad():
        plain.linear.weight.zero_()
    assert torch.equal(ours.state_dict()['linear.weight'], before)


@pytest.mark.parametrize('fidelity', [-1, 2])
def test_fold_refuses_a_fidelity_it_has_not(fidelity: int) -> None:
    with pytest.raises(IndexError, match=f'fidelity {fidelity} of 2'):
        random_layer('bias').fold(fidelity)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_without_theta_it_is_the_common_potential(encoding: str) -> None:
    ours = random_layer(encoding)
    untrained = layer(encoding)
    with torch.no_grad():
        untrained.weight.copy_(ours.weight)
    data = batch(2)
    assert not torch.allclose(run(ours, data), run(untrained, data))
    ours.use_theta = False
    assert torch.equal(run(ours, data), run(untrained, data))


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_gradients_reach_the_fidelities_in_the_batch_only(encoding: str) -> None:
    ours = random_layer(encoding, 3)  # the batch has fidelities 0 and 1
    ours(batch(3))[KEY.NODE_FEATURE].square().sum().backward()
    for fidelity, is_there in enumerate((True, True, False)):
        for parameter in ours.theta(fidelity):
            assert parameter.grad is not None
            assert bool(parameter.grad.any()) is is_there


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_one_fidelity_can_be_frozen(encoding: str) -> None:
    ours = random_layer(encoding)
    for parameter in ours.theta(0):
        parameter.requires_grad_(False)
    ours(batch(2))[KEY.NODE_FEATURE].square().sum().backward()
    assert all(p.grad is None for p in ours.theta(0))
    assert all(p.grad is not None and p.grad.any() for p in ours.theta(1))
    assert ours.weight.grad is not None


def test_layers_without_scalars_have_no_bias_to_own() -> None:
    vectors = Irreps('2x1o')
    ours = layer(irreps_in=vectors, irreps_out=vectors)
    assert [b.numel() for b in ours.bias] == [0, 0]
    data = batch(2)
    data[KEY.NODE_FEATURE] = torch.randn(sum(N_ATOMS), vectors.dim)
    plain = ours.fold(1)
    wanted = run(plain, {KEY.NODE_FEATURE: data[KEY.NODE_FEATURE]})
    torch.testing.assert_close(run(ours, data), wanted)
    twin = layer(irreps_in=vectors, irreps_out=vectors)
    twin.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(twin.weight, ours.weight)


def test_scalar_of_component() -> None:
    numbers = scalar_of_component(Irreps('2x0e+1x1o+1x0o+1x0e'))
    assert numbers.tolist() == [0, 1, 3, 3, 3, 3, 2]


def test_one_fidelity_is_not_for_this_layer() -> None:
    with pytest.raises(ValueError, match='one fidelity needs the host layer'):
        layer(n=1)


def test_made_once() -> None:
    ours = layer()
    with pytest.raises(ValueError, match='keeps its fidelities'):
        ours.set_num_modalities(3)
    with pytest.raises(ValueError, match='exists already'):
        ours.instantiate()
