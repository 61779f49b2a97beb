"""The fused kernel against e3nn's tensor product, in float64."""

import io
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from e3nn.o3 import Irreps, TensorProduct, rand_matrix
from torch import Tensor

from sevennet_mf.kernels import library, operators
from sevennet_mf.kernels.plan import plan_of

pytestmark = pytest.mark.skipif(
    library.path() is None, reason='the kernel was not compiled here'
)
NO_ROWS = torch.empty(0, dtype=torch.int32)
# features, harmonics, largest l of the output
KINDS = {
    'small': ('2x0e+1x1o', '0e+1o', 1),
    'scalars': ('16x0e', '0e+1o+2e', 2),
    'parity': ('5x0e+3x0o+2x1o+4x1e+1x2e', '0e+1o+2e', 2),
    'no_parity': ('100x0e+5x1e+1x2e', '0e+1e+2e', 2),
    'l3': ('4x0e+4x1o+2x2e+3x3o', '0e+1o+2e+3o', 3),
    'l4': ('2x0e+1x1e+3x2e+2x3e+1x4e', '0e+1e+2e+3e+4e', 4),
    'wide': ('128x0e+64x1e', '0e+1e', 1),
}


@pytest.fixture(autouse=True)
def _float64_and_nan() -> Iterator[None]:
    """e3nn keeps its coefficients in the default type; new memory is NaN."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)  # which fills what nothing was put in
    assert torch.empty(2).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(before)
    library.library().sevennet_mf_choose(None)


class Case:
    """A tensor product of the host's kind and arrays for it."""

    def __init__(
        self, kind: str = 'parity', n: int = 6, n_edges: int = 40, n_targets: int = 6
    ) -> None:
        features, harmonics, lmax = KINDS[kind]
        self.product = product(Irreps(features), Irreps(harmonics), lmax)
        self.plan = plan_of(self.product)
        self.n_targets = n_targets
        random = torch.Generator().manual_seed(len(kind) + n_edges)
        self.source = torch.randint(n, (n_edges,), generator=random).int()
        self.target = torch.randint(n_targets, (n_edges,), generator=random).int()

        def array(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random).requires_grad_()

        self.x = array(n, self.product.irreps_in1.dim)
        self.y = array(n_edges, self.product.irreps_in2.dim)
        self.w = array(n_edges, self.product.weight_numel)
        self.g = array(n_targets, self.product.irreps_out.dim)

    @property
    def arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.y, self.w

    def e3nn(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        messages = self.product(x[self.source.long()], y, w)
        out = messages.new_zeros(self.n_targets, messages.shape[1])
        return out.index_add(0, self.target.long(), messages)

    def fused(
        self, x: Tensor, y: Tensor, w: Tensor, row: Tensor = NO_ROWS
    ) -> Tensor:
        return operators.convolution(
            x, y, w, row, self.source, self.target, self.n_targets, self.plan
        )


def product(features: Irreps, harmonics: Irreps, lmax: int) -> TensorProduct:
    """Every path up to lmax, sorted by output, as the host makes them."""
    middle, instructions = [], []
    for i, (mul, a) in enumerate(features):
        for j, (_, b) in enumerate(harmonics):
            for out in a * b:
                if out.l <= lmax:
                    instructions.append((i, j, len(middle), 'uvu', True))
                    middle.append((mul, out))
    outputs, place, _ = Irreps(middle).sort()
    instructions = [(i, j, place[k], *rest) for i, j, k, *rest in instructions]
    instructions.sort(key=lambda path: path[2])
    return TensorProduct(
        features,
        harmonics,
        outputs,
        instructions,
        shared_weights=False,
        internal_weights=False,
    )


def derivatives(case: Case, function) -> list[Tensor]:
    """Value, gradients, and the gradients of a sum over these."""
    out = function(*case.arrays)
    first = torch.autograd.grad(out, case.arrays, case.g, create_graph=True)
    mixed = sum((gradient * gradient.sin()).sum() for gradient in first)
    second = torch.autograd.grad(mixed, (case.g, *case.arrays))
    return [out, *first, *second]


def close(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        if b.numel():
            assert (a - b).abs().max() <= tolerance * max(b.abs().max(), 1.0)


@pytest.mark.parametrize('kind', KINDS)
def test_value_and_two_derivatives_are_those_of_e3nn(kind: str) -> None:
    case = Case(kind)
    close(derivatives(case, case.fused), derivatives(case, case.e3nn), 1e-10)


def test_what_no_path_uses_counts_for_nothing() -> None:
    """As in the last layer of a model with parity, which keeps scalars alone."""
    case = Case()
    texts = '4x0e+3x0o+2x1o+5x1e', '0e+1o+2e', '4x0e+2x0e+3x1o'
    parts = [Irreps(text) for text in texts]
    paths = [(0, 0, 0, 'uvu', True), (2, 1, 1, 'uvu', True)]
    case.product = TensorProduct(
        *parts, paths, shared_weights=False, internal_weights=False
    )
    case.plan = plan_of(case.product)
    for name, n, dim in (
        ('x', 6, parts[0].dim),
        ('w', 40, case.product.weight_numel),
        ('g', 6, parts[2].dim),
    ):
        setattr(case, name, torch.randn(n, dim).requires_grad_())
    found = derivatives(case, case.fused)
    close(found, derivatives(case, case.e3nn), 1e-10)
    out, gx = found[:2]
    assert not out[:, 6:].any()
    assert not gx[:, 4:7].any()
    assert not gx[:, 13:].any()


@pytest.mark.parametrize('name', ['plain', 'avx2', 'avx512'])
def test_instruction_sets_agree(name: str) -> None:
    if not library.library().sevennet_mf_choose(name.encode()):
        pytest.skip(f'this processor has no {name}')
    assert library.instruction_set() == name
    case = Case('no_parity')
    close(derivatives(case, case.fused), derivatives(case, case.e3nn), 1e-10)


def test_float32_is_as_close_as_its_rounding() -> None:
    case = Case('l3')
    wanted = case.e3nn(*case.arrays)
    found = case.fused(*(a.float() for a in case.arrays))
    assert found.dtype == torch.float32
    close([found.double()], [wanted], 1e-6)


def test_gradgradcheck() -> None:
    case = Case('small', n=2, n_edges=3, n_targets=2)
    assert torch.autograd.gradcheck(case.fused, case.arrays)
    assert torch.autograd.gradgradcheck(case.fused, case.arrays)


@pytest.mark.parametrize(
    'shape',
    [
        {'n_edges': 0},
        {'n': 1, 'n_targets': 1, 'n_edges': 3},
        {'n': 9, 'n_targets': 4},  # ghost atoms have features, and no sum
        {'n_edges': 1},
    ],
    ids=['no_edges', 'one_atom', 'ghosts', 'one_edge'],
)
def test_shapes_at_the_border(shape: dict[str, int]) -> None:
    case = Case('parity', **shape)
    close(derivatives(case, case.fused), derivatives(case, case.e3nn), 1e-10)


def test_arrays_need_not_be_contiguous() -> None:
    case = Case()
    apart = [a.detach().T.contiguous().T.requires_grad_() for a in case.arrays]
    assert not any(a.is_contiguous() for a in apart)
    source = torch.stack([case.source, case.source], 1)[:, 0]
    assert not source.is_contiguous()
    out = operators.convolution(
        *apart, NO_ROWS, source, case.target, case.n_targets, case.plan
    )
    close([out], [case.e3nn(*case.arrays)], 1e-10)
    gradient = torch.autograd.grad(out, apart, case.g.T.contiguous().T)
    wanted = torch.autograd.grad(case.e3nn(*case.arrays), case.arrays, case.g)
    close(list(gradient), list(wanted), 1e-10)


@pytest.mark.parametrize('kind', ['parity', 'wide'])
def test_both_directions_of_a_pair_share_weights(kind: str) -> None:
    case = Case(kind, n_edges=30)
    row = torch.randperm(30, generator=torch.Generator().manual_seed(1)) % 17
    case.w = case.w[:17].detach().requires_grad_()  # 13 rows twice, 4 once
    found = derivatives(case, lambda *a: case.fused(*a, row.int()))
    wanted = derivatives(case, lambda x, y, w: case.e3nn(x, y, w[row]))
    close(found, wanted, 1e-10)


def test_threads_change_nothing() -> None:
    case = Case('l3', n=40, n_edges=900, n_targets=40)
    row = (torch.arange(900) // 2).int()
    case.w = case.w[:450].detach().requires_grad_()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(derivatives(case, lambda *a: case.fused(*a, row)))
    finally:
        torch.set_num_threads(before)
    for one, other in pairwise(found):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_rotating_the_input_rotates_the_output() -> None:
    case = Case('l3')
    torch.manual_seed(0)  # near some rotations e3nn's angles lose digits
    rotation = rand_matrix()
    parts = case.product.irreps_in1, case.product.irreps_in2, case.product.irreps_out
    first, second, out = (p.D_from_matrix(rotation) for p in parts)
    turned = case.fused(case.x @ first.T, case.y @ second.T, case.w)
    close([turned], [case.fused(*case.arrays) @ out.T], 1e-10)


class Scripted(torch.nn.Module):
    """The operator as a deployed model calls it."""

    def __init__(self, plan: Tensor) -> None:
        super().__init__()
        self.register_buffer('plan', plan)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        w: Tensor,
        row: Tensor,
        source: Tensor,
        target: Tensor,
        n: int,
    ) -> Tensor:
        return torch.ops.sevennet_mf.convolution(
            x, y, w, row, source, target, n, self.plan
        )


def test_scripted_and_reloaded_it_is_the_same() -> None:
    case = Case()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Scripted(case.plan)), file)
    file.seek(0)
    model = torch.jit.load(file)

    def reloaded(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        rest = NO_ROWS, case.source, case.target, case.n_targets
        return model(x, y, w, *rest)

    found, wanted = derivatives(case, reloaded), derivatives(case, case.fused)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_each_edge_finds_its_other_direction() -> None:
    # a chain 0 - 1 - 2, a pair at two distances, and an edge without its other
    edges = [(0, 1, 1.0), (1, 0, -1.0), (1, 2, 2.0), (2, 1, -2.0), (0, 1, 3.0)]
    edges += [(1, 0, -3.0), (2, 0, 0.5), (0, 0, 4.0), (0, 0, -4.0)]
    columns = zip(*edges, strict=True)
    source, target, along = (torch.tensor(column) for column in columns)
    vec = along[:, None] * torch.tensor([[1.0, 0.5, -0.25]])
    found = operators.partners(source.int(), target.int(), vec, 3)
    assert found.tolist() == [1, 0, 3, 2, 5, 4, 6, 8, 7]


# ---- what it refuses


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'source': torch.full((40,), 6).int()}, 'an atom that is not there'),
        ({'target': torch.full((40,), -1).int()}, 'an atom that is not there'),
        ({'row': torch.full((40,), 40).int()}, 'a row that is not there'),
        ({'source': torch.zeros(40)}, 'indices must be int32'),
        ({'target': torch.zeros(39).int()}, 'indices must be int32'),
        ({'x': torch.zeros(6, 3).double()}, 'does not fit the plan'),
        ({'y': torch.zeros(39, 9).double()}, 'does not fit the plan'),
        ({'y': torch.zeros(40, 9).float()}, 'does not support'),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    case = Case()
    given = {'x': case.x, 'y': case.y, 'w': case.w, 'row': NO_ROWS}
    given |= {'source': case.source, 'target': case.target}
    with pytest.raises(RuntimeError, match=message):
        operators.convolution(
            **(given | change), n_targets=case.n_targets, plan=case.plan
        )


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda plan: plan[:3], 'no header'),
        (lambda plan: plan[:-1], 'cut short'),
        (lambda plan: torch.cat([plan, plan[:1]]), 'too long'),
        (lambda plan: plan.index_fill(0, torch.tensor([6]), 11.0), 'l is not'),
        (lambda plan: plan.index_fill(0, torch.tensor([9]), 1e3), 'outside'),
    ],
)
def test_a_damaged_plan_is_refused(spoil, message: str) -> None:
    case = Case()
    case.plan = spoil(case.plan).contiguous()
    with pytest.raises(RuntimeError, match=message):
        case.fused(*case.arrays)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('2x0e', '0e', '2x0e', [(0, 0, 0, 'uvw', True)]), "'uvw' is not uvu"),
        (('2x0e', '0e', '2x0e', [(0, 0, 0, 'uvu', False)]), 'not uvu with a'),
        (('2x5e', '0e', '2x5e', [(0, 0, 0, 'uvu', True)]), 'greater than 4'),
        (
            ('2x0e+2x0e', '0e', '2x0e', [(i, 0, 0, 'uvu', True) for i in (0, 1)]),
            'two paths lead to the same output',
        ),
    ],
)
def test_other_products_have_no_plan(arguments: tuple, message: str) -> None:
    product = TensorProduct(*arguments, shared_weights=False, internal_weights=False)
    with pytest.raises(ValueError, match=message):
        plan_of(product)
