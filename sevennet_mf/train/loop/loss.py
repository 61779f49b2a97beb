"""The loss of multi-fidelity training, as the host's LossDefinition.

    L = sum_k lambda_k sum_i w_fk m_ik l_ik / (|B| sum_f p_f w_fk rho_fk)

k: energy, force, stress; i: structures of the batch B; f: the fidelity of i;
m_ik: whether i has label k; l_ik: the criterion, averaged over the
components of i; w_fk: the user's weights; p_f: the probability that a drawn
structure has fidelity f; rho_fk: the share of f's structures that have k.

The denominator is a constant of the run: gradients averaged over processes equal
those of one joint batch, and a batch with a single fidelity keeps its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.train.loss import LossDefinition

from sevennet_mf import keys
from sevennet_mf.config.blocks import ComponentWeight
from sevennet_mf.config.criteria import Criterion, criterion_of, described
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.model.build import fidelity_layers

# (n_fidelities,) bool, on the CPU | which fidelities the joint batch of all
# processes has; the trainer adds it to what the model returns
PRESENT: Final[str] = 'fidelity_present'
# (label, the host's name, key of the label, key of the prediction)
LABELS = (
    ('energy', 'Energy', KEY.ENERGY, KEY.PRED_TOTAL_ENERGY),
    ('force', 'Force', KEY.FORCE, KEY.PRED_FORCE),
    ('stress', 'Stress', KEY.STRESS, KEY.PRED_STRESS),
)


def per_structure(
    label: str, batch: Any, criterion: Criterion
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the criterion of each structure, and whether it has the label.

    A missing label is NaN in the batch.

    Returns:
        Two (n_graphs,) tensors: the mean over the structure's components, zero
        without a label, of energies in eV/atom, forces in eV/Å and stress in kbar;
        and a boolean.
    """
    n_atoms = batch[KEY.NUM_ATOMS]
    if label == 'energy':
        reference = (batch[KEY.ENERGY] / n_atoms).unsqueeze(1)  # (n_graphs, 1)
        predicted = (batch[KEY.PRED_TOTAL_ENERGY] / n_atoms).unsqueeze(1)
    elif label == 'force':
        reference = batch[KEY.FORCE]  # (n_atoms, 3)
        predicted = batch[KEY.PRED_FORCE]
    else:
        reference = batch[KEY.STRESS].reshape(-1, 6) * keys.KBAR
        predicted = batch[KEY.PRED_STRESS].reshape(-1, 6) * keys.KBAR
    known = ~torch.isnan(reference)
    # an unknown component compares a detached prediction with itself: zero, and
    # no NaN reaches the gradient through a product with zero
    reference = torch.where(known, reference, predicted.detach())
    values = criterion(predicted, reference).mean(dim=1)
    known = known.all(dim=1)
    if label == 'force':
        owner = batch[KEY.BATCH]
        zeros = torch.zeros_like(n_atoms, dtype=values.dtype)
        values = zeros.index_add(0, owner, values) / n_atoms
        known = zeros.index_add(0, owner, known.to(values.dtype)) == n_atoms
    return values, known


class FidelityLoss(LossDefinition):
    """One label's term of the loss, without its lambda.

    Args:
        weights: (n_fidelities,) w_fk.
        constant: sum_f p_f w_fk rho_fk.
        batch_size: |B|, the structures of a full batch of one process, on average.
    """

    def __init__(
        self,
        label: str,
        criterion: Criterion,
        weights: np.ndarray,
        constant: float,
        batch_size: float,
    ) -> None:
        _, name, ref_key, pred_key = next(row for row in LABELS if row[0] == label)
        super().__init__(
            name=name, criterion=criterion, ref_key=ref_key, pred_key=pred_key
        )
        self.label = label
        self.weights = torch.tensor(weights, dtype=torch.float32)
        self.divisor = float(batch_size * constant)

    def get_loss(
        self, batch_data: dict[str, Any], model: Callable | None = None
    ) -> torch.Tensor:
        assert self.criterion is not None
        values, known = per_structure(self.label, batch_data, self.criterion)
        fidelity = batch_data[keys.FIDELITY_INDEX]
        self.weights = self.weights.to(values.device)  # only once
        weights = self.weights[fidelity] * batch_data[keys.SAMPLE_WEIGHT] * known
        return (weights * values).sum() / self.divisor


class ThetaPenalty(LossDefinition):
    """|theta_T|^2 of the fidelities in the batch, on effective weights.

    It acts on b_f, g_f and A_f B_f as features see them; weights that all
    fidelities share are not penalised (arXiv 2510.11241). The batch is that of all
    processes, so that the mean of their gradients is that of one process.
    """

    def __init__(self) -> None:
        super().__init__(name='ThetaPenalty')

    def get_loss(
        self, batch_data: dict[str, Any], model: Callable | None = None
    ) -> torch.Tensor:
        assert isinstance(model, torch.nn.Module)
        layers = fidelity_layers(model)
        terms = [
            term
            for fidelity, is_present in enumerate(batch_data[PRESENT].tolist())
            if is_present
            for layer in layers
            for term in layer.effective_theta(fidelity)
        ]
        if not terms:
            return torch.zeros((), device=batch_data[PRESENT].device)
        return torch.cat(terms).square().sum()


def fidelity_weights(
    given: Mapping[str, float | ComponentWeight] | str,
    order: Sequence[str],
    probability: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return w_fk by label, each (n_fidelities,), in the order of `order`.

    Args:
        given: train.fidelity.loss_weight; 'balanced' gives each fidelity the same
            share of the loss, however often it is drawn.
        probability: (n_fidelities,) p_f.
    """
    if isinstance(given, str):
        drawn = probability > 0  # a fidelity of a continued model may have no data
        balanced = np.zeros(len(order))
        balanced[drawn] = 1.0 / (drawn.sum() * probability[drawn])
        return {label: balanced for label, *_ in LABELS}
    weights = {}
    for label, *_ in LABELS:
        values = [given.get(name, 1.0) for name in order]
        weights[label] = np.array(
            [v if isinstance(v, float) else getattr(v, label) for v in values]
        )
    return weights


def factors_of(inputs: RunInputs) -> dict[str, float]:
    """Return lambda_k by label."""
    host, energy = inputs.host, inputs.train.energy_loss_weight
    factors = {
        'energy': 1.0 if energy is None else energy,
        'force': float(host[KEY.FORCE_WEIGHT]),
    }
    if host[KEY.IS_TRAIN_STRESS]:
        factors['stress'] = float(host[KEY.STRESS_WEIGHT])
    return factors


def line(inputs: RunInputs) -> str:
    """Return what a run with losses of its own says about them."""
    own, host = inputs.train.loss, inputs.host
    terms = [
        f'{label} {described(label, host, own)} × {factor:g}'
        for label, factor in factors_of(inputs).items()
    ]
    return f'Loss: {", ".join(terms)}'


def losses_from(
    inputs: RunInputs,
    order: Sequence[str],
    probability: np.ndarray,
    labelled: dict[str, np.ndarray],
    batch_size: float | None = None,
) -> list[tuple[LossDefinition, float]]:
    """Return the (loss, lambda) pairs of a run.

    A label that no structure has gets no term.

    Args:
        order: fidelities by index.
        probability: (n_fidelities,) p_f.
        labelled: rho_fk by label, each (n_fidelities,).
        batch_size: |B|, the structures of a batch of one process, on average; None:
            that of the inputs.
    """
    host, train = inputs.host, inputs.train
    weights = fidelity_weights(train.loss_weight, order, probability)
    losses: list[tuple[LossDefinition, float]] = []
    for label, factor in factors_of(inputs).items():
        criterion = criterion_of(label, host, train.loss)
        constant = float((probability * weights[label] * labelled[label]).sum())
        if constant > 0:
            size = batch_size or inputs.batch_size
            loss = FidelityLoss(label, criterion, weights[label], constant, size)
            losses.append((loss, float(factor)))
    if train.regularization > 0 and len(order) > 1:
        losses.append((ThetaPenalty(), train.regularization))
    return losses
