"""What a run trains with: batches limited by edges, and what is said of them."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import randomise
from train_helpers import (
    batch_of,
    fit_of,
    gradients,
    resumed,
    same,
    weights,
    yaml_of,
)

from sevennet_mf.config import inputs
from sevennet_mf.errors import TrainingStopped, UserError
from sevennet_mf.train.loop.fit import Fit

LIMIT = 700  # edges: a few cells


def by_edges(limit: int = LIMIT, **more: object) -> dict:
    """Cells of 4 and 8 atoms in batches of equal work."""
    sections = yaml_of(fidelity={'train': {'batch_edges': limit}}, **more)
    del sections['data']['batch_size']
    return sections


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    fit = fit_of(by_edges(), tmp_path_factory.mktemp('whole'))
    fit.run()
    return fit


def test_no_batch_is_above_the_limit(whole: Fit) -> None:
    for data in whole.sets.values():
        sizes = [batch['edge_index'].shape[1] for batch in data.loader]
        counts = [len(batch['num_atoms']) for batch in data.loader]
        assert max(sizes) <= LIMIT
        assert max(counts) > 1
    loader = whole.sets['trainset'].loader
    assert len({len(batch['num_atoms']) for batch in loader}) > 1


def test_it_resumes_to_the_same_weights(tmp_path: Path, whole: Fit) -> None:
    fit = fit_of(by_edges(), tmp_path)
    step, done = fit.trainer.step, []

    def counted(*args: object, **kwargs: object) -> object:
        done.append(1)
        if len(done) == len(fit.sets['trainset'].loader) + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args, **kwargs)

    fit.trainer.step = counted  # type: ignore[method-assign]
    with pytest.raises(TrainingStopped, match='after step 1 of epoch 2'):
        fit.run()
    again = resumed(by_edges(), tmp_path)
    again.run()
    assert same(weights(again), weights(whole))


def test_ranks_together_have_the_gradient_of_their_joint_batch(
    tmp_path: Path,
) -> None:
    """However many structures each has: every one counts the same."""
    fit = fit_of(by_edges(), tmp_path)
    randomise(fit.trainer.module)
    dataset = fit.sets['trainset'].dataset
    both, parts = torch.ones(2, dtype=torch.bool), []
    for numbers in ([0, 1, 2, 4], [5, 6]):
        fit.trainer.optimizer.param_groups[0]['lr'] = 0.0
        fit.trainer.step(batch_of(dataset, numbers), present=both)
        parts.append(gradients(fit.trainer.module))
    for loss, _ in fit.trainer.loss_functions:
        if hasattr(loss, 'divisor'):
            loss.divisor *= 2  # two batches in one
    fit.trainer.step(batch_of(dataset, [0, 1, 2, 4, 5, 6]))
    joint = gradients(fit.trainer.module)
    size = max(np.abs(g).max() for g in joint.values())
    for name, gradient in joint.items():
        mean = (parts[0][name] + parts[1][name]) / 2
        assert np.allclose(mean, gradient, rtol=1e-4, atol=1e-5 * size), name


def test_what_is_above_the_limit_alone_is_said(tmp_path: Path) -> None:
    words = r'batch_edges: 100 is less than the edges of \d+ structures.*pbe_train'
    with pytest.warns(UserWarning, match=words):
        fit = fit_of(by_edges(100), tmp_path)
    assert {len(batch['num_atoms']) for batch in fit.sets['validset'].loader} == {1}


def test_one_word_for_the_size_of_a_batch() -> None:
    sections = by_edges()
    sections['data']['batch_size'] = 4
    with pytest.raises(UserError, match=r'batch_size: 4 .*batch_edges: 700 both'):
        inputs.read(sections)
    sections['data']['batch_size'] = None  # as if left out
    assert inputs.read(sections).train.batch_edges == LIMIT
