"""The richer forms of FidelityLinear, `gain` and `lora`, and how one is selected."""

import math
from typing import Any

import torch
import torch.nn as nn
from e3nn.o3 import Irreps, Linear
from e3nn.util.jit import compile_mode

from sevennet_mf.model.linear import FidelityLinear


def copy_of_component(irreps: Irreps) -> torch.Tensor:
    """Return the index of the irrep copy of each component, (irreps.dim,) int64."""
    dims = torch.tensor([ir.dim for mul, ir in irreps for _ in range(mul)])
    return torch.repeat_interleave(torch.arange(len(dims)), dims)


@compile_mode('script')
class GainLinear(FidelityLinear):
    """y = (1 + g_f) * (W x) + b_f, with one number of g_f per copy of each irrep.

    Equivariant because g_f is constant over m. State dicts contain `gain.<i>`,
    (irreps_out.num_irreps,), in addition to those of FidelityLinear.
    """

    encoding = 'gain'

    def instantiate_encoding(self) -> None:
        # zero: an untrained fidelity is the common potential
        self.gain = self.per_fidelity(self.irreps_out.num_irreps)
        self.register_buffer(
            'to_copy', copy_of_component(self.irreps_out), persistent=False
        )

    def encode(
        self, x: torch.Tensor, y: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        gain = torch.stack([g for g in self.gain]).index_select(1, self.to_copy)
        return torch.addcmul(y, y, one_hot @ gain)

    def theta(self, fidelity: int) -> list[nn.Parameter]:
        return [*super().theta(fidelity), self.gain[fidelity]]

    def effective_theta(self, fidelity: int) -> list[torch.Tensor]:
        return [*super().effective_theta(fidelity), self.gain[fidelity]]

    def folded_weight(self, fidelity: int | None) -> torch.Tensor:
        flat = super().folded_weight(fidelity)
        if fidelity is None:
            return flat
        factor = 1.0 + self.gain[fidelity].detach().double()
        parts = factor.split([mul for mul, _ in self.irreps_out])
        return torch.cat(
            [flat.new_zeros(0)]
            + [
                (view * parts[ins.i_out]).reshape(-1)
                for _, ins, view in self.linear.weight_views(
                    flat, yield_instruction=True
                )
            ]
        )


def rank_irreps(irreps_in: Irreps, irreps_out: Irreps, rank: int) -> Irreps:
    """Return `rank` copies of each irrep that both sides have, in sorted order."""
    shared = {ir for _, ir in irreps_in} & {ir for _, ir in irreps_out}
    return Irreps([(rank, ir) for ir in sorted(shared)])


def _gather_order(shapes: list[tuple[int, ...]], n: int, axis: int) -> torch.Tensor:
    """Return where the fidelities' flat vectors have each weight of the joint layer.

    The n flat vectors, one after another, each contain matrices of `shapes`; the
    joint layer has the same matrices side by side along `axis`.
    """
    size = sum(math.prod(shape) for shape in shapes)
    order = []
    offset = 0
    for shape in shapes:
        block = torch.arange(math.prod(shape)).reshape(shape) + offset
        order.append(torch.cat([block + i * size for i in range(n)], axis).flatten())
        offset += block.numel()
    return torch.cat([torch.zeros(0, dtype=torch.int64), *order])


@compile_mode('script')
class LoraLinear(FidelityLinear):
    """y = (W + A_f B_f) x + b_f with A_f B_f of rank `rank` within each irrep.

    A_f is random and B_f zero at the start. One pair of e3nn layers computes the
    low-rank part of all fidelities at once: each irrep between them has the `rank`
    copies of fidelity 0, 1, ..., and those of fidelities other than the atom's own
    are set to zero. State dicts contain `lora_a.<i>` and `lora_b.<i>`.
    """

    encoding = 'lora'

    def __init__(self, *args: Any, rank: int = 4, **kwargs: Any) -> None:
        self.rank = rank
        super().__init__(*args, **kwargs)

    def instantiate_encoding(self) -> None:
        n = self.num_modalities
        external = {'internal_weights': False, 'shared_weights': True}
        own = rank_irreps(self.irreps_in, self.irreps_out, self.rank)
        joint = rank_irreps(self.irreps_in, self.irreps_out, self.rank * n)
        own_down = Linear(self.irreps_in, own, **external)
        own_up = Linear(own, self.irreps_out, **external)
        self.lora_a = self.per_fidelity(own_up.weight_numel, random=True)
        # zero: an untrained fidelity is the common potential
        self.lora_b = self.per_fidelity(own_down.weight_numel)
        self.down_shapes = [ins.path_shape for ins in own_down.instructions]
        self.up_shapes = [ins.path_shape for ins in own_up.instructions]
        self.lora_down = Linear(self.irreps_in, joint, **external)
        self.lora_up = Linear(joint, self.irreps_out, **external)
        # e3nn divides by the square root of all `rank * n` copies
        self.up_scale = math.sqrt(n)
        owner = [
            copy // self.rank
            for mul, ir in joint
            for copy in range(mul)
            for _ in range(ir.dim)
        ]
        for name, index in (
            ('to_owner', torch.tensor(owner, dtype=torch.int64)),
            ('to_down', _gather_order(self.down_shapes, n, axis=1)),
            ('to_up', _gather_order(self.up_shapes, n, axis=0)),
        ):
            self.register_buffer(name, index, persistent=False)

    def encode(
        self, x: torch.Tensor, y: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        down = torch.cat([b for b in self.lora_b]).index_select(0, self.to_down)
        up = torch.cat([a for a in self.lora_a]).index_select(0, self.to_up)
        between = self.lora_down(x, down) * one_hot.index_select(1, self.to_owner)
        return y + self.lora_up(between, up * self.up_scale)

    def theta(self, fidelity: int) -> list[nn.Parameter]:
        own = [self.lora_a[fidelity], self.lora_b[fidelity]]
        return [*super().theta(fidelity), *own]

    def low_rank(self, fidelity: int) -> dict[tuple[int, int], torch.Tensor]:
        """Return A_f B_f by (block of irreps_in, block of irreps_out).

        Returns:
            Matrices (mul_in, mul_out), in the units of a plain e3nn layer's weights.
        """
        down = _matrices(self.lora_b[fidelity], self.down_shapes)
        up = _matrices(self.lora_a[fidelity], self.up_shapes)
        pairs_down = [(i.i_in, i.i_out) for i in self.lora_down.instructions]
        pairs_up = [(i.i_in, i.i_out) for i in self.lora_up.instructions]
        return {
            (i_in, i_out): b @ a / math.sqrt(self.rank)
            for (i_in, middle), b in zip(pairs_down, down, strict=True)
            for (from_middle, i_out), a in zip(pairs_up, up, strict=True)
            if middle == from_middle
        }

    def effective_theta(self, fidelity: int) -> list[torch.Tensor]:
        low_rank = self.low_rank(fidelity)
        products = [
            (low_rank[(ins.i_in, ins.i_out)] * ins.path_weight).reshape(-1)
            for ins in self.linear.instructions
        ]
        return [*super().effective_theta(fidelity), *products]

    def folded_weight(self, fidelity: int | None) -> torch.Tensor:
        flat = super().folded_weight(fidelity)
        if fidelity is None:
            return flat
        low_rank = self.low_rank(fidelity)
        own = [
            low_rank[(ins.i_in, ins.i_out)].detach().double().reshape(-1)
            for ins in self.linear.instructions
        ]
        return flat + torch.cat([flat.new_zeros(0), *own])


def _matrices(
    flat: torch.Tensor, shapes: list[tuple[int, ...]]
) -> list[torch.Tensor]:
    parts = flat.split([math.prod(shape) for shape in shapes])
    return [p.reshape(shape) for p, shape in zip(parts, shapes, strict=True)]


ENCODINGS: dict[str, type[FidelityLinear]] = {
    cls.encoding: cls for cls in (FidelityLinear, GainLinear, LoraLinear)
}


def fidelity_linear(encoding: str, rank: int, **kwargs: Any) -> FidelityLinear:
    """Make the layer of an encoding.

    Args:
        encoding: `bias`, `gain` or `lora`.
        rank: Of `lora`; the others ignore it.
        kwargs: As of `FidelityLinear`.

    Raises:
        KeyError: There is no such encoding.
    """
    if encoding == 'lora':
        kwargs['rank'] = rank
    return ENCODINGS[encoding](**kwargs)
