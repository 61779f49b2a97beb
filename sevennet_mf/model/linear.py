"""FidelityLinear: the host's IrrepsLinear with weights that a fidelity owns."""

import math
from typing import Any

import sevenn._keys as KEY
import torch
import torch.nn as nn
from e3nn.o3 import Irreps, Linear
from e3nn.util.jit import compile_mode
from sevenn._const import AtomGraphDataType
from sevenn.nn.linear import IrrepsLinear

from sevennet_mf.model import host_weight


def scalar_of_component(irreps: Irreps) -> torch.Tensor:
    """Return the index of the 0e copy that each component is, (irreps.dim,) int64.

    A component that is not 0e gets the number of 0e copies: one past the end.
    """
    past_end = irreps.count('0e')
    numbers: list[int] = []
    scalar = 0
    for mul, ir in irreps:
        if ir.is_scalar():
            numbers.extend(range(scalar, scalar + mul))
            scalar += mul
        else:
            numbers.extend([past_end] * (mul * ir.dim))
    return torch.tensor(numbers, dtype=torch.int64)


def with_biases(layer: IrrepsLinear) -> IrrepsLinear:
    """Return a new plain layer of the same shape with biases, all of them zero."""
    return IrrepsLinear(
        layer.irreps_in,
        layer.irreps_out,
        layer.key_input,
        layer.key_output,
        lazy_layer_instantiate=False,
        **{**layer.linear_kwargs, 'biases': True},
    )


@compile_mode('script')
class FidelityLinear(IrrepsLinear):
    """y = W x + b_f: shared weights W, and a bias b_f that fidelity f owns.

    Reads data[data_key_in] (n_atoms, irreps_in.dim) and data['modal_attr'], the
    one-hot fidelity of each graph, (n_graphs, n_fidelities); writes
    data[data_key_out] (n_atoms, irreps_out.dim). b_f acts on the 0e outputs: this is
    equivalent to concatenating the one-hot fidelity to x, the "modified linear" of
    arXiv 2409.07947. `GainLinear` and `LoraLinear` own more.

    W (`weight`) and each fidelity's own weights are separate Parameters, so that any
    fidelity can be frozen or left out of an optimiser. State dicts contain the
    host's single flat `linear.weight` instead: see host_weight.py.
    """

    encoding = 'bias'
    layer_instantiated: bool

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        data_key_in: str,
        data_key_out: str | None = None,
        data_key_modal_attr: str = KEY.MODAL_ATTR,
        num_modalities: int = 2,
        lazy_layer_instantiate: bool = True,
        **linear_kwargs: Any,
    ) -> None:
        super().__init__(
            irreps_in,
            irreps_out,
            data_key_in,
            data_key_out,
            data_key_modal_attr,
            **linear_kwargs,
        )
        # False evaluates the common potential: every theta_T counts as zero
        self.use_theta = True
        self.set_num_modalities(num_modalities)
        if not lazy_layer_instantiate:
            self.instantiate()

    def set_num_modalities(self, num_modalities: int) -> None:
        """Set the number of fidelities; the host calls this while it builds."""
        if self.layer_instantiated:
            raise ValueError('a layer that is instantiated keeps its fidelities')
        if num_modalities < 2:
            raise ValueError('one fidelity needs the host layer, not FidelityLinear')
        self.num_modalities = num_modalities

    def instantiate(self) -> None:
        if self.layer_instantiated:
            raise ValueError('the linear layer exists already')
        kwargs = dict(self.linear_kwargs)
        has_bias = bool(kwargs.pop('biases', False))
        self.linear = Linear(
            self.irreps_in,
            self.irreps_out,
            internal_weights=False,
            shared_weights=True,
            **kwargs,
        )
        n_scalar = self.irreps_out.count('0e')
        self.weight = nn.Parameter(torch.randn(self.linear.weight_numel))
        # several processes wait for the gradient of every weight that requires one
        self.common_bias = nn.Parameter(
            torch.zeros(n_scalar if has_bias else 0), requires_grad=has_bias
        )
        # zero, so that a pretrained model is reproduced at step 0
        self.bias = self.per_fidelity(n_scalar)
        to_scalar = scalar_of_component(self.irreps_out)
        # for each number of a (num_modalities, irreps_out.dim) table of biases, its
        # place in all biases one after another, with one zero at the end
        rows = torch.arange(self.num_modalities).unsqueeze(1)
        to_table = torch.where(
            to_scalar < n_scalar,
            rows * n_scalar + to_scalar,
            self.num_modalities * n_scalar,
        )
        for name, buffer in (
            ('to_scalar', to_scalar),
            ('to_table', to_table.reshape(-1)),
            ('zero', torch.zeros(1)),
        ):
            self.register_buffer(name, buffer, persistent=False)
        self._keep_host_units()
        self.instantiate_encoding()
        self.register_state_dict_post_hook(host_weight.write)
        self.register_load_state_dict_pre_hook(host_weight.read)
        self.layer_instantiated = True

    def instantiate_encoding(self) -> None:
        """Make the weights beyond the bias; for subclasses."""

    def per_fidelity(self, size: int, random: bool = False) -> nn.ParameterList:
        """Return one Parameter of `size` per fidelity: zeros, or normal deviates."""
        make = torch.randn if random else torch.zeros
        return nn.ParameterList(
            nn.Parameter(make(size)) for _ in range(self.num_modalities)
        )

    def _keep_host_units(self) -> None:
        # The host appends the one-hot fidelity to the 0e inputs, and e3nn divides
        # a 0e output by sqrt(number of 0e inputs). W and b stay in the host's
        # units, so that files agree to the last bit; the factors are kept here.
        n_in = self.irreps_in.count('0e')
        n_host = n_in + self.num_modalities
        self.bias_scale = 1.0 / math.sqrt(n_host)
        shrink = math.sqrt(n_in / n_host)
        parts = [torch.ones(0)]
        for ins in self.linear.instructions:
            factor = shrink if self.irreps_out[ins.i_out].ir.is_scalar() else 1.0
            parts.append(torch.full((math.prod(ins.path_shape),), factor))
        self.register_buffer('weight_scale', torch.cat(parts), persistent=False)

    def fidelity_of_atoms(self, data: AtomGraphDataType) -> torch.Tensor:
        """Return the one-hot fidelity of each atom, (n_atoms, n_fidelities)."""
        x = data[self.key_input]
        one_hot = data[self.key_modal_attr].reshape(-1, self.num_modalities)
        one_hot = one_hot.to(x.dtype)  # (n_graphs, n_fidelities)
        if self._is_batch_data:
            return one_hot[data[KEY.BATCH]]  # (n_graphs, ) -> (n_atoms, )
        return one_hot.expand(x.shape[0], -1)

    def bias_table(self) -> torch.Tensor:
        """Return b_f as stored, (n_fidelities, irreps_out.dim); zero beside 0e."""
        # few operations on few numbers: in a small model each one takes time
        flat = torch.cat([b for b in self.bias] + [self.zero])
        return flat.index_select(0, self.to_table).view(self.num_modalities, -1)

    def encode(
        self, x: torch.Tensor, y: torch.Tensor, one_hot: torch.Tensor
    ) -> torch.Tensor:
        """Apply what an encoding adds to y = W x beyond the bias: nothing here.

        Args:
            x: (n_atoms, irreps_in.dim), the input.
            y: (n_atoms, irreps_out.dim), W x.
            one_hot: (n_atoms, n_fidelities), the fidelity of each atom.

        Returns:
            (n_atoms, irreps_out.dim).
        """
        return y

    def forward(self, data: AtomGraphDataType) -> AtomGraphDataType:
        assert self.linear is not None, 'the layer is not instantiated'
        x = data[self.key_input]
        y = self.linear(x, self.weight * self.weight_scale)
        if self.use_theta:
            one_hot = self.fidelity_of_atoms(data)
            y = self.encode(x, y, one_hot)
            y = torch.addmm(y, one_hot, self.bias_table(), alpha=self.bias_scale)
        if self.common_bias.numel() > 0:
            common = torch.cat([self.common_bias, self.zero])
            y = y + common.index_select(0, self.to_scalar)
        data[self.key_output] = y
        return data

    # ---- what follows is for training and for files, not for TorchScript

    def theta(self, fidelity: int) -> list[nn.Parameter]:
        """Return the Parameters that a fidelity owns in this layer."""
        return [self.bias[fidelity]]

    def effective_theta(self, fidelity: int) -> list[torch.Tensor]:
        """Return what a fidelity owns as it acts on features: flat, differentiable.

        b_f here; g_f and A_f B_f in the richer encodings. In a checkpoint's raw
        numbers the same b_f would depend on the width of the layer.
        """
        return [self.bias[fidelity] * self.bias_scale]

    def folded_weight(self, fidelity: int | None) -> torch.Tensor:
        """Return the flat weights of the plain layer for one fidelity, float64."""
        return self.weight.detach().double() * self.weight_scale.double()

    @torch.no_grad()
    def fold(self, fidelity: int | None) -> IrrepsLinear:
        """Return the plain layer, with biases, that this one is at a fidelity.

        Exact except for rounding: products are formed in float64 and rounded once.

        Args:
            fidelity: Its index, or None for the common potential (theta_T = 0).

        Raises:
            IndexError: The index is out of range.
        """
        if fidelity is not None and not 0 <= fidelity < self.num_modalities:
            raise IndexError(f'fidelity {fidelity} of {self.num_modalities}')
        plain = with_biases(self).to(self.weight)
        plain._is_batch_data = self._is_batch_data
        assert plain.linear is not None
        plain.linear.weight.copy_(self.folded_weight(fidelity))
        bias = plain.linear.bias.double()  # zero so far
        if self.common_bias.numel():
            bias = bias + self.common_bias.double()
        if fidelity is not None:
            bias = bias + self.bias[fidelity].double() * self.bias_scale
        plain.linear.bias.copy_(bias)
        return plain
