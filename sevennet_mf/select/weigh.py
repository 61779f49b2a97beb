"""What a structure's distance is multiplied by, and the choice that follows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from sevennet_mf.arrays import Floats
from sevennet_mf.errors import UserError
from sevennet_mf.select import farthest
from sevennet_mf.select.features import Described, Features
from sevennet_mf.select.options import Options
from sevennet_mf.select.pool import Candidate


def weights(cost: Floats, disagreement: Floats | None) -> Floats:
    """Return (n,), disagreement by cost, each in units of its mean.

    UserError if the models do not disagree on any structure.
    """
    weight = cost.mean() / cost
    if disagreement is None:
        return weight
    mean = disagreement.mean()
    if mean == 0.0:
        raise UserError(
            'the checkpoints of --disagreement agree to the last digit: they are '
            'the same model. Give models that were trained with other seeds.'
        )
    return np.asarray(weight * disagreement / mean)


def choose(
    n: int,
    pool: Sequence[Candidate],
    described: Described,
    own: Features | None,
    options: Options,
) -> farthest.Chosen:
    """Choose `n` structures of a pool, or fewer where nothing more is to be had.

    own: features of what is labelled, standardised as those of the pool. Raises
    UserError if there is nothing to choose, warns if it ends before `n`.
    """
    coverage = farthest.Coverage(described.features, options.distance)
    if own is not None:
        coverage.add(own.values)
    cost = np.array([candidate.cost for candidate in pool])
    weight = weights(cost, described.disagreement)
    budget = np.inf if options.budget is None else options.budget
    if cost.min() > budget:
        raise UserError(
            f'--budget {budget:g}: the cheapest structure costs {cost.min():g}. '
            'Give a larger budget.'
        )
    chosen = farthest.choose(coverage, n, weight, cost, budget, options.seed)
    if not chosen.choices:
        raise UserError(
            'every structure has the same atoms as one that is labelled: nothing '
            'new is left to choose.'
        )
    if len(chosen.choices) < n and options.budget is None:
        warnings.warn(
            f'{len(chosen.choices)} structures chosen instead of {n}: all others '
            'are labelled, or have the same atoms, to the model.',
            UserWarning,
            stacklevel=3,
        )
    return chosen
