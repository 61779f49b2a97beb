"""What gain and lora own, how large it is, and how a form is chosen."""

import pytest
import sevenn._keys as KEY
import torch
from e3nn.o3 import Irreps
from helpers import ENCODINGS, randomise

from sevennet_mf.model import encodings
from sevennet_mf.model.encodings import (
    GainLinear,
    LoraLinear,
    copy_of_component,
    fidelity_linear,
    rank_irreps,
)
from sevennet_mf.model.linear import FidelityLinear

IRREPS_IN = Irreps('3x0e+2x1o+2x0e+1x2e')
IRREPS_OUT = Irreps('4x0e+2x1o+3x0e+2x2e')


def layer(encoding: str, n: int = 2, rank: int = 2) -> FidelityLinear:
    torch.manual_seed(3)
    made = fidelity_linear(
        encoding,
        rank,
        irreps_in=IRREPS_IN,
        irreps_out=IRREPS_OUT,
        data_key_in=KEY.NODE_FEATURE,
        num_modalities=n,
        lazy_layer_instantiate=False,
        biases=False,
    ).double()
    return made


def apply(
    ours: FidelityLinear, x: torch.Tensor, fidelity: int | None
) -> torch.Tensor:
    ours._is_batch_data = False
    ours.use_theta = fidelity is not None
    n = ours.num_modalities
    data = {
        KEY.NODE_FEATURE: x,
        KEY.MODAL_ATTR: torch.eye(n).double()[fidelity or 0],
    }
    result = ours(data)[KEY.NODE_FEATURE].detach()
    ours.use_theta = True
    return result


def operator(
    ours: FidelityLinear, fidelity: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer as y = M x + c, found by feeding it unit vectors."""
    dim = IRREPS_IN.dim
    offset = apply(ours, torch.zeros(1, dim).double(), fidelity)[0]
    matrix = apply(ours, torch.eye(dim).double(), fidelity) - offset
    return matrix.T, offset


def square(ours: FidelityLinear, fidelity: int) -> torch.Tensor:
    return torch.cat(ours.effective_theta(fidelity)).square().sum()


def first_components(irreps: Irreps) -> list[int]:
    """The m = -l component of each copy: M is constant over m."""
    firsts, start = [], 0
    for mul, ir in irreps:
        firsts += [start + copy * ir.dim for copy in range(mul)]
        start += mul * ir.dim
    return firsts


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_effective_theta_is_the_difference(encoding: str) -> None:
    ours = layer(encoding, 3)
    randomise(ours)
    common, zero = operator(ours, None)
    assert not zero.any()
    for fidelity in range(3):
        matrix, offset = operator(ours, fidelity)
        wanted = offset.square().sum()  # b
        if encoding == 'bias':
            torch.testing.assert_close(matrix, common)
        if encoding == 'gain':
            for row in first_components(IRREPS_OUT):  # g: M = (1 + g) W
                column = common[row].abs().argmax()
                wanted += (matrix[row, column] / common[row, column] - 1).square()
        if encoding == 'lora':  # AB: M = W + AB
            rows = first_components(IRREPS_OUT)
            wanted += (matrix - common)[rows].square().sum()
        assert wanted > 0
        torch.testing.assert_close(square(ours, fidelity).detach(), wanted)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_effective_theta_can_be_descended(encoding: str) -> None:
    ours = layer(encoding)
    randomise(ours)
    square(ours, 1).backward()
    assert all(p.grad is not None and p.grad.any() for p in ours.theta(1))
    assert all(p.grad is None for p in ours.theta(0))
    assert ours.weight.grad is None


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_untrained_owns_nothing(encoding: str) -> None:
    ours = layer(encoding)
    assert square(ours, 0).item() == 0.0
    x = torch.randn(4, IRREPS_IN.dim).double()
    assert torch.equal(apply(ours, x, 0), apply(ours, x, 1))


@pytest.mark.parametrize('determinant', [1, -1])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_equivariant(encoding: str, determinant: int) -> None:
    ours = layer(encoding)
    randomise(ours)
    rotation = torch.linalg.qr(torch.randn(3, 3).double())[0]
    rotation *= determinant * torch.linalg.det(rotation).sign()
    d_in = IRREPS_IN.D_from_matrix(rotation)
    d_out = IRREPS_OUT.D_from_matrix(rotation)
    x = torch.randn(5, IRREPS_IN.dim).double()
    torch.testing.assert_close(
        apply(ours, x @ d_in.T, 1), apply(ours, x, 1) @ d_out.T
    )


def test_lora_has_the_rank_it_says() -> None:
    ours = layer('lora', rank=1)
    randomise(ours)
    assert isinstance(ours, LoraLinear)
    for (i_in, i_out), product in ours.low_rank(1).items():
        assert product.shape == (IRREPS_IN[i_in].mul, IRREPS_OUT[i_out].mul)
        assert torch.linalg.matrix_rank(product) == 1


@pytest.mark.parametrize(
    ('encoding', 'own'),
    [('bias', set()), ('gain', {'gain'}), ('lora', {'lora_a', 'lora_b'})],
)
def test_names_in_state_dicts_stay_outside_linear(encoding: str, own: set) -> None:
    state = layer(encoding).state_dict()
    empty = {'lora_down', 'lora_up'}  # e3nn keeps buffers of the layers' shape
    names = {name.split('.')[0] for name, value in state.items() if value.numel()}
    assert names - empty == {'linear', *own}
    for name in own:
        assert {n for n in state if n.startswith(name)} == {f'{name}.0', f'{name}.1'}


def test_copy_of_component() -> None:
    numbers = copy_of_component(Irreps('2x0e+2x1o+1x0e'))
    assert numbers.tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 4]


def test_rank_irreps_are_those_of_both_sides() -> None:
    found = rank_irreps(Irreps('2x1o+3x0e+1x0o'), Irreps('1x0e+4x1o+2x2e'), 3)
    assert found == Irreps('3x0e+3x1o')


def test_encodings_by_name() -> None:
    assert set(encodings.ENCODINGS) == set(ENCODINGS)
    assert isinstance(layer('gain'), GainLinear)
    with pytest.raises(KeyError, match='other'):
        layer('other')
