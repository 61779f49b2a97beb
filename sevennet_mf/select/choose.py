"""From a checkpoint and files to the structures that most deserve a label."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from ase import Atoms
from rich.table import Table
from tqdm import tqdm

from sevennet_mf.arrays import Floats
from sevennet_mf.data.extxyz import check_has
from sevennet_mf.data.same.identity import Reader
from sevennet_mf.errors import UserError
from sevennet_mf.files import make_folder
from sevennet_mf.model.load import load_model
from sevennet_mf.select import coverage_map, farthest, features, output
from sevennet_mf.select.farthest import Chosen
from sevennet_mf.select.features import Described, NodeFeatures
from sevennet_mf.select.network import Network
from sevennet_mf.select.options import Options, check, number
from sevennet_mf.select.output import Selected
from sevennet_mf.select.pool import (
    NONE,
    Candidate,
    Cost,
    cost_of,
    distinct,
    files_of,
    read_again,
    survey,
)


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen.

    Attributes:
        selected: The structures.
        candidates: How many structures were given.
        copies: How many of them repeat another one, or are labelled.
        labelled: How many structures were given as labelled.
        left: (choices + 1, 2) largest and mean distance of what is not chosen,
            before and after each choice.
        files: Paths of selected.extxyz, selected.csv and coverage.png.
    """

    selected: list[Selected]
    candidates: int
    copies: int
    labelled: int
    left: Floats
    files: list[str]


def select(
    checkpoint: str,
    files: Sequence[str],
    output_dir: str,
    labelled: Sequence[str] = (),
    options: Options | None = None,
    trust: bool = False,
) -> Selection:
    """Choose structures by farthest-point sampling, and write them.

    Args:
        checkpoint: Path of a checkpoint, or the name of a pretrained model, whose
            node features are compared.
        files: Files with the structures to choose from.
        output_dir: Folder for selected.extxyz, selected.csv and coverage.png.
        labelled: Files with structures that count as chosen already.
        options: How to choose; by default `Options()`.
        trust: Read checkpoints that run code; only for ones you made yourself.

    Returns:
        What was chosen, in order.

    Raises:
        UserError: Something cannot be used: a file, an element that a checkpoint
            lacks, a fidelity, a column, more structures than there are.
    """
    options = options or Options()
    check(options)
    given_as, labelled_as = files_of(files), files_of(labelled) if labelled else []
    # before the work, not after it
    make_folder(output_dir, 'Choose another folder with -o.', to_write=True)
    output.check_inputs(output_dir, [*given_as, *labelled_as])
    names = [checkpoint, *options.disagreement]
    networks = [
        Network(load_model(name, trust=trust), options.fidelity, options.device)
        for name in names
    ]
    known = [(network.name, network.references) for network in networks]
    look = partial(_look, cost_of(options.cost), options.keep)
    reader = Reader()
    given = survey(given_as, known, reader, look)
    done = survey(labelled_as, known[:1], reader) if labelled_as else []
    pool = distinct(given, done)
    n = number(options, len(given), len(pool))
    described, own = _describe(pool, distinct(done), networks, options)
    chosen = choose(n, pool, described, own, options)
    selected = _selected(chosen, pool, described, options)
    paths = [os.path.join(output_dir, name) for name in output.FILES]
    output.set_earlier_aside(output_dir)
    output.write_structures(paths[0], selected, options.keep)
    output.write_index(paths[1], selected, features.UNITS[options.disagreement_of])
    order = [choice.index for choice in chosen.choices]
    coverage_map.draw(paths[2], described.features, own, order, chosen.left)
    return Selection(
        selected=selected,
        candidates=len(given),
        copies=len(given) - len(pool),
        labelled=len(done),
        left=chosen.left,
        files=paths,
    )


def _look(cost: Cost | None, keep: Sequence[str], atoms: Atoms, where: str) -> float:
    check_has(atoms, keep, where)
    return 1.0 if cost is None else cost(atoms, where)


def _describe(
    pool: Sequence[Candidate],
    done: Sequence[Candidate],
    networks: Sequence[Network],
    options: Options,
) -> tuple[features.Described, features.NodeFeatures | None]:
    """Predictions for the pool, and the features of labelled structures."""
    own = None
    with tqdm(
        desc='features',
        total=len(pool) + len(done),
        unit=' structures',
        disable=None if options.progress else True,
    ) as bar:
        described = features.describe(
            read_again(pool),
            networks[0],
            networks[1:],
            options.disagreement_of,
            options.batch_size,
            bar,
        )
        if done:
            labelled = read_again(done)
            size = options.batch_size
            own = features.describe(
                labelled, networks[0], batch_size=size, bar=bar
            ).features
    features.standardise(described.features, [own] if own else [])
    return described, own


def _selected(
    chosen: Chosen,
    pool: Sequence[Candidate],
    described: features.Described,
    options: Options,
) -> list[Selected]:
    return [
        Selected(
            rank=rank,
            candidate=pool[choice.index],
            score=None if choice.lacking else choice.score,
            distance=None if choice.lacking else choice.distance,
            disagreement=_at(described.disagreement, choice.index),
            cost=None if options.cost == NONE else pool[choice.index].cost,
        )
        for rank, choice in enumerate(chosen.choices, 1)
    ]


def _at(values: Floats | None, index: int) -> float | None:
    return None if values is None else float(values[index])


def run(args: argparse.Namespace) -> Table:
    """Run `sevennet-mf select`; return the table to print."""
    options = Options(
        n=args.number,
        fidelity=args.fidelity,
        distance=args.distance,
        disagreement=args.disagreement or (),
        disagreement_of=args.disagreement_of,
        cost=args.cost,
        budget=args.budget,
        keep=args.keep or (),
        seed=args.seed,
        batch_size=args.batch_size,
        device=args.device,
    )
    found = select(
        args.checkpoint, args.files, args.output, args.labelled or (), options
    )
    unit = features.UNITS[options.disagreement_of]
    return output.table(found.selected, unit, _caption(found, args.output))


def _caption(found: Selection, folder: str) -> str:
    free = found.candidates - found.copies
    lines = [f'Chosen from {free} structures.']
    if found.copies:
        lines = [
            f'Chosen from {free} of {found.candidates} structures; the others are '
            'copies or labelled.'
        ]
    largest, mean = found.left[-1]
    lines.append(
        'Distances are in units of the spread of each element. Remaining '
        f'structures: largest {largest:.2f}, mean {mean:.2f}.'
    )
    costs = [s.cost for s in found.selected if s.cost is not None]
    if costs:
        lines.append(f'Total cost: {sum(costs):g}.')
    return ' '.join([*lines, f'Written: {os.path.join(folder, "")}'])


# ---- what a distance is multiplied by, and the choice that follows


def weights(cost: Floats, disagreement: Floats | None) -> Floats:
    """Return disagreement divided by cost, each in units of its mean.

    Args:
        cost: (n,) cost of each structure.
        disagreement: (n,) disagreement of the models on each structure; None
            counts as the same for all.

    Returns:
        (n,) what the distance of each structure is multiplied by.

    Raises:
        UserError: If the models do not disagree on any structure.
    """
    weight = cost.mean() / cost
    if disagreement is None:
        return weight
    mean = disagreement.mean()
    if mean == 0.0:
        raise UserError(
            'the checkpoints of --disagreement agree to the last digit: they are '
            'the same model. Give models that were trained with different seeds.'
        )
    return np.asarray(weight * disagreement / mean)


def choose(
    n: int,
    pool: Sequence[Candidate],
    described: Described,
    own: NodeFeatures | None,
    options: Options,
) -> farthest.Chosen:
    """Choose `n` structures of a pool, or fewer if there are no more.

    Warns if it ends before `n`, unless that is due to the budget.

    Args:
        own: Features of labelled structures, standardised like those of the pool.

    Raises:
        UserError: If there is nothing to choose.
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
            'every structure has the same atoms as a labelled one: there is '
            'nothing new to choose.'
        )
    if len(chosen.choices) < n and options.budget is None:
        warnings.warn(
            f'{len(chosen.choices)} structures chosen instead of {n}: all others '
            'are labelled, or look the same to the model.',
            UserWarning,
            stacklevel=3,
        )
    return chosen
