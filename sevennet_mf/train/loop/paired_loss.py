"""What two labels of one structure differ by, as a term of the loss.

    L = w sum_k lambda_k sum_p l(D_p - D_p^label) / (|B| n_pairs / n)

D_p: prediction at one fidelity less that at the base, of the pair p in the batch B.
The errors that a network has in common at both fidelities, most of all where there
are few labels, drop out of the difference; what the levels of theory differ by is
then learnt from clean data. The denominator is a constant of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.train.loss import LossDefinition

from sevennet_mf import keys
from sevennet_mf.arrays import Ints
from sevennet_mf.data.dataset import FidelityDataset, pair_index
from sevennet_mf.data.sampler import PROPORTIONAL
from sevennet_mf.errors import UserError
from sevennet_mf.train.loop.loss import Criterion, criterion_from


def partners(dataset: FidelityDataset, base: str) -> Ints:
    """Return for each structure its own label at the base, by number; or -1."""
    found = np.full(len(dataset), -1, np.int64)
    low = dataset.rows_of(base)
    for name in dataset.fidelities:
        if name != base:
            pair = pair_index(dataset, base, name)
            rows = dataset.rows_of(name)
            found[rows[pair >= 0]] = low[pair[pair >= 0]]
    return found


def partner_orders(dataset: FidelityDataset, partner: Ints) -> dict[int, Ints]:
    """Return for structures whose partner has its atoms in another order, which.

    Atom i of the structure is atom result[number][i] of its partner.
    """
    found = {}
    for number in np.flatnonzero(partner >= 0).tolist():
        order = dataset.order_between(int(partner[number]), number)
        if order is not None:
            found[number] = order
    return found


class PairedLoss(LossDefinition):
    """The term of one label, 'energy' or 'force', without its lambda and w.

    partner: (n,) int64 as `partners` gives it, of pairs with both labels;
    batch_size: |B|, the structures of a full batch of one process; orders: which
    atom of the partner each atom of a structure is, where it is not the same
    number. Energies count per atom (eV/atom), forces in eV/Å.
    """

    def __init__(
        self,
        label: str,
        criterion: Criterion,
        partner: Ints,
        batch_size: int,
        orders: Mapping[int, Ints],
    ) -> None:
        names = {
            'energy': (KEY.ENERGY, KEY.PRED_TOTAL_ENERGY),
            'force': (KEY.FORCE, KEY.PRED_FORCE),
        }
        ref_key, pred_key = names[label]
        super().__init__(
            name=f'Paired{label.capitalize()}',
            criterion=criterion,
            ref_key=ref_key,
            pred_key=pred_key,
        )
        self.label = label
        self.partner = torch.from_numpy(partner)
        self.orders = {i: torch.from_numpy(order) for i, order in orders.items()}
        self.divisor = batch_size * max(int((partner >= 0).sum()), 1) / len(partner)

    def get_loss(
        self, batch_data: dict[str, Any], model: Callable | None = None
    ) -> torch.Tensor:
        high, low = self._pairs(batch_data)
        predicted = batch_data[self.pred_key]
        if not len(high):
            return predicted.new_zeros(())
        values = self._values(batch_data, high, low)
        weights = batch_data[keys.SAMPLE_WEIGHT]
        return (values * weights[high] * weights[low]).sum() / self.divisor

    def _pairs(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Places in the batch of the pairs that are whole in it."""
        number = batch[keys.STRUCTURE_INDEX]
        self.partner = self.partner.to(number.device)  # there once and for all
        wanted = self.partner[number]
        high, low = (wanted[:, None] == number[None, :]).nonzero(as_tuple=True)
        return high, low

    def _atoms(
        self, batch: Any, high: torch.Tensor, low: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of every atom of the pairs: its pair, and its place in each of the two."""
        n_atoms, number = batch[KEY.NUM_ATOMS], batch[keys.STRUCTURE_INDEX]
        sizes, starts = n_atoms[high], n_atoms.cumsum(0) - n_atoms
        owner = torch.repeat_interleave(
            torch.arange(len(high), device=sizes.device), sizes
        )
        first = sizes.cumsum(0) - sizes
        inside = torch.arange(len(owner), device=sizes.device) - first[owner]
        other = inside.clone()
        for pair, structure in enumerate(number[high].tolist()):
            if structure in self.orders:
                order = self.orders[structure].to(other.device)
                other[first[pair] : first[pair] + len(order)] = order
        return owner, starts[high][owner] + inside, starts[low][owner] + other

    def _values(
        self, batch: Any, high: torch.Tensor, low: torch.Tensor
    ) -> torch.Tensor:
        """The criterion of each pair, (n_pairs,); zero where a label is missing."""
        assert self.criterion is not None
        n_atoms = batch[KEY.NUM_ATOMS]
        label, predicted = batch[self.ref_key], batch[self.pred_key]
        if self.label == 'energy':
            gap = ((label[high] - label[low]) / n_atoms[high]).unsqueeze(1)
            found = ((predicted[high] - predicted[low]) / n_atoms[high]).unsqueeze(1)
            owner = torch.arange(len(high), device=gap.device)
            share = torch.ones_like(gap[:, 0])
        else:
            sizes = n_atoms[high]
            owner, above, below = self._atoms(batch, high, low)
            gap = label[above] - label[below]
            found = predicted[above] - predicted[below]
            share = 1.0 / sizes[owner]
        # as in loss.per_structure: an unknown component compares with itself
        gap = torch.where(torch.isnan(gap), found.detach(), gap)
        each = self.criterion(found, gap).mean(dim=1) * share
        zeros = torch.zeros(len(high), dtype=each.dtype, device=each.device)
        return zeros.index_add(0, owner, each)


def check_batches(config: dict[str, Any]) -> None:
    """UserError if the two labels of a structure cannot meet in one batch."""
    sampling = config[keys.FIDELITY_TRAIN]['sampling']
    needs = 'train.fidelity.paired_weight needs both labels of a structure in one'
    if sampling != PROPORTIONAL:
        raise UserError(
            f'{needs} batch; with train.fidelity.sampling: {sampling!r} they are '
            'drawn apart. Use sampling: proportional, and loss_weight for the '
            'fidelities.'
        )
    if config[KEY.BATCH_SIZE] < 2:
        raise UserError(f'{needs} batch; set data.batch_size to 2 or more.')


def paired_losses(
    config: dict[str, Any], train: FidelityDataset
) -> list[tuple[LossDefinition, float]]:
    """The (loss, factor) pairs of a run; none where no structure has two labels."""
    partner = partners(train, config[keys.FIDELITY_DATA]['base'])
    if not (partner >= 0).any():
        return []
    weight = config[keys.FIDELITY_TRAIN]['paired_weight']
    factors = {'energy': 1.0, 'force': float(config[KEY.FORCE_WEIGHT])}
    criterion = criterion_from(config)
    orders = partner_orders(train, partner)
    losses: list[tuple[LossDefinition, float]] = []
    for label, factor in factors.items():
        both = train.has[label] & train.has[label][partner]  # -1: any, and no pair
        own = np.where(both, partner, -1)
        if (own >= 0).any():
            size = config[KEY.BATCH_SIZE]
            loss = PairedLoss(label, criterion, own, size, orders)
            losses.append((loss, weight * factor))
    return losses
