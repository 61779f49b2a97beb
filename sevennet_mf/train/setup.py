"""What a run needs before its first step: species, references, statistics."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
import sevenn.util as util
from ase.data import chemical_symbols
from sevenn.logger import Logger

from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data import checks
from sevennet_mf.data.dataset import (
    DRIFT,
    TRAIN,
    FidelityDataset,
    is_validation,
    labels_in,
    pair_index,
    random_split,
)
from sevennet_mf.data.findings import Finding, refuse
from sevennet_mf.data.inferred.infer import Report, infer_from, sources_of
from sevennet_mf.data.needs import Needs
from sevennet_mf.data.references import (
    References,
    fit_references,
    with_isolated,
)
from sevennet_mf.data.undetermined import reference_elements, undetermined
from sevennet_mf.distributed import Process
from sevennet_mf.errors import UserError
from sevennet_mf.train.loop.provenance import report

__all__ = ['DRIFT', 'TRAIN', 'is_validation']

Config = dict[str, Any]
Sets = dict[str, FidelityDataset]
# the host's keys for the elements of a model
CHEMISTRY: Final = (
    KEY.TYPE_MAP,
    KEY.NUM_SPECIES,
    KEY.CHEMICAL_SPECIES,
    KEY.CHEMICAL_SPECIES_BY_ATOMIC_NUMBER,
)


def heed(findings: Iterable[Finding]) -> None:
    """Warn of notes, and stop at the first problem.

    Raises:
        UserError: There is a problem.
    """
    for finding in findings:
        if finding.is_problem:
            raise UserError(finding.message)
        Logger().writeline(f'WARNING: {finding.message}')
        warnings.warn(finding.message, UserWarning, stacklevel=2)


def say_files(sets: Sets, needs: Needs, method: str | Mapping[str, Any]) -> None:
    """Write into the log how files were read, and what was left out of them.

    method: `data.fidelity.reference_energies`.
    """
    log = Logger()
    lines = [line for data in sets.values() for line in data.lines()]
    for line in dict.fromkeys(lines):
        log.writeline(line)
    for name, energies in sets[TRAIN].isolated.items():
        is_added = bool(needs.old) and name not in needs.old
        if method == 'independent':
            why = 'reference_energies: independent'
        elif needs.continues and not is_added:
            why = 'training starts from a checkpoint'
        else:
            continue
        log.writeline(
            f'WARNING: isolated atoms of {name} ({", ".join(energies)}) are not '
            f'used: {why}.'
        )


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
    inputs: RunInputs, sets: Sets, process: Process
) -> tuple[Sets, list[Report]]:
    """Add inferred labels of the target to the training set, if asked for.

    The first process infers them for all: others might round differently.

    Returns:
        The sets, and reports, which are empty if it was not asked for.
    """
    base, target, train = inputs.base, inputs.target, sets[TRAIN]
    asked = inputs.data.inferred_labels
    if asked == 'never' or base == target:
        return sets, []
    cutoff, always = inputs.cutoff, asked == 'always'
    sources = sources_of(inputs.order, base, target, train)
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
    return np.unique(np.concatenate([d.elements() for d in sets.values()]))


def species(config: Config, sets: Sets) -> Config:
    """Return the host's keys for the elements: those given, or the data's."""
    if config[KEY.CHEMICAL_SPECIES] != 'auto':
        return {key: config[key] for key in CHEMISTRY if key in config}
    symbols = sorted(chemical_symbols[z] for z in present_elements(sets))
    found: Config = util.chemical_species_preprocess(symbols)
    return found


def known_elements(
    inputs: RunInputs, type_map: Mapping[int, int], sets: Sets
) -> list[str]:
    """Return the elements that need references, including the model's."""
    return named_elements(inputs, sets, type_map)


def named_elements(
    inputs: RunInputs, sets: Sets, species: Collection[int] | None = None
) -> list[str]:
    """Return reference_elements of the sets and of the numbers in the YAML."""
    given = inputs.data.reference_energies
    numbers = given if isinstance(given, dict) else {}
    return reference_elements(present_elements(sets), numbers, species)


def fit(
    inputs: RunInputs, type_map: Mapping[int, int], sets: Sets
) -> References:
    """Fit the reference energies of every fidelity on the training set.

    Args:
        type_map: the model's, by atomic number.
    """
    train, base = sets[TRAIN], inputs.base
    labels = {}
    for name in inputs.order:
        pair = None if name == base else pair_index(train, base, name)
        labels[name] = labels_in(train, train.rows_of(name), pair)
    elements = known_elements(inputs, type_map, sets)
    method = with_isolated(inputs.data.reference_energies, train.isolated)
    return fit_references(labels, base, elements, method)


def check_determined(target: str, sets: Sets, references: References) -> None:
    """Log the reference energies, and warn of what no label determines.

    Raises:
        UserError: The target needs it.
    """
    for line in report(references):
        Logger().writeline(line)
    heed(undetermined(references, target, sets))


def warn_of_zeros(names: Sequence[str], sets: Sets, shift: np.ndarray) -> None:
    """Warn of elements in the data for which a checkpoint has no energy.

    SevenNet writes 0 for an element that one modality's data lacked, as for Yb at
    r2SCAN in 7net-MF-0.

    Args:
        names: fidelities by their index.
        shift: (n_fidelities, 119) eV.
    """
    known = (shift != 0).any(axis=0)
    for z in present_elements(sets):
        for name in (n for n, row in zip(names, shift, strict=True) if not row[z]):
            if known[z]:
                message = (
                    f'train.continue: the checkpoint has no reference energy for '
                    f'{chemical_symbols[z]} at {name!r}: not determined.'
                )
                Logger().writeline(f'WARNING: {message}')
                warnings.warn(message, UserWarning, stacklevel=2)


def statistics_of(
    inputs: RunInputs, train: FidelityDataset, shift: np.ndarray
) -> Config:
    """Return shift, scale and convolution denominator, by the host's keys.

    Scale and denominator follow the YAML: a number, or the name of a statistic of
    the training set.

    Args:
        shift: (n_fidelities, 119) eV.
    """
    host, names = inputs.host, inputs.order
    found = {key: host[key] for key in (KEY.SCALE, KEY.CONV_DENOMINATOR)}
    statistic = found[KEY.SCALE]
    if isinstance(statistic, str):
        if host[KEY.USE_MODAL_WISE_SCALE]:
            found[KEY.SCALE] = {
                name: _scale(train, statistic, i) for i, name in enumerate(names)
            }
        else:
            found[KEY.SCALE] = _scale(train, statistic, None)
    statistic = found[KEY.CONV_DENOMINATOR]
    if isinstance(statistic, str):
        average = train.average_neighbours()
        root = statistic.startswith('sqrt')
        found[KEY.CONV_DENOMINATOR] = average**0.5 if root else average
    return {**found, KEY.SHIFT: shift_by_name(names, shift)}


def shift_by_name(names: Sequence[str], shift: np.ndarray) -> Any:
    """Return reference energies, (n_fidelities, 119) eV, in the host's form."""
    rows = {name: shift[i].tolist() for i, name in enumerate(names)}
    return rows if len(names) > 1 else rows[names[0]]


def _scale(train: FidelityDataset, statistic: str, fidelity: int | None) -> float:
    """The energy scale in eV; where there are no forces, the energies' spread."""
    candidates = [train.residual_energy_std(fidelity)]
    if statistic == 'force_rms':
        # a fidelity without forces takes the others' scale: the spread of its
        # energies is another quantity, and would make it start far from them
        candidates = [train.force_rms(fidelity), train.force_rms(None), *candidates]
    # one structure has no spread
    return next((float(value) for value in candidates if value > 0), 1.0)
