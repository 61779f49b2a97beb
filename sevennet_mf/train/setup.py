"""What a run needs before its first step: species, references, statistics."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import sevenn._keys as KEY
import sevenn.util as util
from ase.data import chemical_symbols
from sevenn.logger import Logger

from sevennet_mf import keys
from sevennet_mf.data import checks
from sevennet_mf.data.dataset import (
    DRIFT,
    TRAIN,
    FidelityDataset,
    is_validation,
    pair_index,
    random_split,
)
from sevennet_mf.data.determined import reference_elements, undetermined
from sevennet_mf.data.findings import Finding, refuse
from sevennet_mf.data.inferred.infer import Report, infer_from, sources_of
from sevennet_mf.data.references import Labels, References, fit_references
from sevennet_mf.distributed import Process
from sevennet_mf.errors import UserError
from sevennet_mf.train.loop.provenance import fidelity_names, report

__all__ = ['DRIFT', 'TRAIN', 'is_validation']

Config = dict[str, Any]
Sets = dict[str, FidelityDataset]


def heed(findings: Iterable[Finding]) -> None:
    """Raise the first problem as UserError, and warn of notes before it."""
    for finding in findings:
        if finding.is_problem:
            raise UserError(finding.message)
        Logger().writeline(f'WARNING: {finding.message}')
        warnings.warn(finding.message, UserWarning, stacklevel=2)


def split_training_set(sets: Sets, ratio: float, seed: int) -> Sets:
    """Take `ratio` of each fidelity for validation if there is no such set.

    This is the host's `data_divide_ratio`, by fidelity.
    """
    if ratio <= 0:
        return sets
    train, valid = random_split(sets[TRAIN], ratio, seed)
    if len(valid) == 0:
        refuse(checks.nothing_held_out(ratio))
    return {**sets, TRAIN: train, 'validset': valid}


def infer(
    config: Config, sets: Sets, process: Process
) -> tuple[Sets, list[Report]]:
    """Add inferred labels of the target to the training set, if asked for.

    Reports are none if it was not. The first process infers them for all: others
    might round differently.
    """
    data, target = config[keys.FIDELITY_DATA], config[keys.FIDELITY_TRAIN]['target']
    asked, base, train = data['inferred_labels'], data['base'], sets[TRAIN]
    if asked == 'never' or base == target:
        return sets, []
    cutoff, always = float(config[KEY.CUTOFF]), asked == 'always'
    sources = sources_of(data['order'], base, target, train)
    found = process.share(
        lambda: infer_from(train, sources, target, cutoff, always)
    )
    for inferred in found:
        for line in inferred.report.lines():
            Logger().writeline(line)
        train = inferred.added_to(train)
    return {**sets, TRAIN: train}, [inferred.report for inferred in found]


def present_elements(sets: Sets) -> np.ndarray:
    """Atomic numbers that any set contains, ascending."""
    return np.flatnonzero(sum(d.composition.sum(axis=0) for d in sets.values()))


def choose_species(config: Config, sets: Sets) -> None:
    """Set the elements of the model from the data, if none are given."""
    if config[KEY.CHEMICAL_SPECIES] == 'auto':
        symbols = sorted(chemical_symbols[z] for z in present_elements(sets))
        config.update(util.chemical_species_preprocess(symbols))


def known_elements(config: Config, sets: Sets) -> list[str]:
    """Symbols of the elements the references are needed for, the model's too."""
    return named_elements(config, sets, config[KEY.TYPE_MAP])


def named_elements(
    config: Config, sets: Sets, species: Collection[int] | None = None
) -> list[str]:
    """As reference_elements, of the sets and the numbers of the YAML."""
    given = config[keys.FIDELITY_DATA]['reference_energies']
    numbers = given if isinstance(given, dict) else {}
    return reference_elements(present_elements(sets), numbers, species)


def fit(config: Config, sets: Sets) -> References:
    """Fit the reference energies of every fidelity on the training set."""
    data = config[keys.FIDELITY_DATA]
    train = sets[TRAIN]
    base = data['base']
    composition = train.composition
    labels = {}
    for name in fidelity_names(config):
        rows = train.rows_of(name)
        pair = None if name == base else pair_index(train, base, name)
        labels[name] = Labels(composition[rows], train.energy[rows], pair=pair)
    return fit_references(
        labels, base, known_elements(config, sets), data['reference_energies']
    )


def check_determined(config: Config, sets: Sets, references: References) -> None:
    """Warn of what no label determines; UserError if the target needs it."""
    for line in report(references):
        Logger().writeline(line)
    target = config[keys.FIDELITY_TRAIN]['target']
    heed(undetermined(references, target, sets))


def warn_of_zeros(config: Config, sets: Sets, shift: np.ndarray) -> None:
    """Warn of elements of the data that a checkpoint has no energy for.

    shift: (n_fidelities, 119) eV. SevenNet writes 0 for an element that one
    modality's data lacked, as for Yb at r2SCAN in 7net-MF-0.
    """
    names = fidelity_names(config)
    known = (shift != 0).any(axis=0)
    for z in present_elements(sets):
        for name in (n for n, row in zip(names, shift, strict=True) if not row[z]):
            if known[z]:
                message = (
                    f'train.continue: the checkpoint has no reference energy of '
                    f'{chemical_symbols[z]} at {name!r}: not determined.'
                )
                Logger().writeline(f'WARNING: {message}')
                warnings.warn(message, UserWarning, stacklevel=2)


def set_statistics(
    config: Config, train: FidelityDataset, shift: np.ndarray
) -> None:
    """Set shift, scale and convolution denominator of the model.

    shift: (n_fidelities, 119) eV. Scale and denominator follow the YAML:
    a number, or the name of a statistic of the training set.
    """
    set_shift(config, shift)
    names = fidelity_names(config)
    statistic = config[KEY.SCALE]
    if isinstance(statistic, str):
        if config[KEY.USE_MODAL_WISE_SCALE]:
            config[KEY.SCALE] = {
                name: _scale(train, statistic, i) for i, name in enumerate(names)
            }
        else:
            config[KEY.SCALE] = _scale(train, statistic, None)
    statistic = config[KEY.CONV_DENOMINATOR]
    if isinstance(statistic, str):
        average = train.average_neighbours()
        root = statistic.startswith('sqrt')
        config[KEY.CONV_DENOMINATOR] = average**0.5 if root else average


def set_shift(config: Config, shift: np.ndarray) -> None:
    """Set the reference energies of the model, (n_fidelities, 119) eV."""
    names = fidelity_names(config)
    rows = {name: shift[i].tolist() for i, name in enumerate(names)}
    config[KEY.SHIFT] = rows if len(names) > 1 else rows[names[0]]


def _scale(train: FidelityDataset, statistic: str, fidelity: int | None) -> float:
    """The energy scale in eV; where there are no forces, the energies' spread."""
    candidates = [train.residual_energy_std(fidelity)]
    if statistic == 'force_rms':
        # a fidelity without forces takes the others' scale: the spread of its
        # energies is another quantity, and would make it start far from them
        candidates = [train.force_rms(fidelity), train.force_rms(None), *candidates]
    # one structure has no spread
    return next((float(value) for value in candidates if value > 0), 1.0)
