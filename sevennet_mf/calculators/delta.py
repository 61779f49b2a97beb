"""ASE's calculator for delta-learning: a model plus a model of what it lacks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.calculators.mixing import SumCalculator
from ase.data import chemical_symbols

from sevennet_mf import keys
from sevennet_mf.calculators.evaluator import Properties
from sevennet_mf.calculators.fidelity import FidelityCalculator
from sevennet_mf.calculators.results import Results
from sevennet_mf.checkpoint import unpickle
from sevennet_mf.checkpoint.file import read_checkpoint
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import UNNAMED


class DeltaCalculator(SumCalculator):
    """ASE calculator for delta-learning: a model plus a model of what it lacks.

    E = E_low + E_difference. It computes what `FidelityCalculator` does, in the same
    units, each the sum of both models'. `contributions` are the two parts, to which
    `results` answers as `'energy_contributions'` and so on.

    Args:
        low: Path of a checkpoint of this package or of SevenNet, or the name of a
            pretrained model.
        difference: Likewise, of a single fidelity, trained on differences of labels
            (high - low).
        fidelity: Which fidelity of `low` the difference is to; None if `low` has one
            only.
        device: `'cpu'`, `'cuda'`, or `'auto'` for a GPU if there is one; for both.
        trust: Read checkpoints that run code; only for ones you made yourself.
        accelerators: `enable_cueq`, `enable_flash`, `enable_oeq`, as of
            `FidelityCalculator`; for both.

    Raises:
        UserError: One of these cannot be used; both are the same file, or have no
            element in common; or the difference says in its `about` that it is to
            another fidelity (`difference_to`).
    """

    results: Properties

    def __init__(
        self,
        low: str | os.PathLike[str],
        difference: str | os.PathLike[str],
        fidelity: str | None = None,
        device: str | torch.device = 'auto',
        trust: bool = False,
        **accelerators: bool,
    ) -> None:
        if fidelity is not None and not isinstance(fidelity, str):
            raise UserError(
                'fidelity of a DeltaCalculator must be a single name, because a '
                f'difference belongs to one fidelity, got {fidelity!r}.'
            )
        with unpickle.trusting(trust):
            path, content = read_checkpoint(os.fspath(difference))
            _check_single(path, content['config'])
            self.low = FidelityCalculator(low, fidelity, device, **accelerators)
            self.difference = FidelityCalculator(path, None, device, **accelerators)
        low_path = str(self.low.parameters['checkpoint'])
        if os.path.samefile(low_path, path):
            raise UserError(
                f'low and difference are the same file, {path}. The difference is a '
                'separate model, trained on labels of high - low.'
            )
        if self.low.differences:
            raise UserError(
                f'low is {low_path}, which is a model of a difference. Give the '
                f'model that {path} belongs to as low.'
            )
        self.difference.differences.clear()  # it is used as one here
        _check_meant_for(path, content['config'], str(self.low.fidelity))
        self._paths = {'low': low_path, 'difference': path}
        if not self.elements:
            raise UserError(
                f'{low_path} and {path} have no element in common, so no structure '
                'has an energy in both. The difference knows '
                f'{", ".join(_symbols(self.difference))}.'
            )
        super().__init__([self.low, self.difference])
        # the same, in an order that does not change from run to run
        self.implemented_properties = list(self.low.implemented_properties)
        self.parameters.update(**self._paths, fidelity=self.low.fidelity)

    @property
    def elements(self) -> list[str]:
        """The symbols of the elements that both models know."""
        both = _symbols(self.difference)
        return [symbol for symbol in _symbols(self.low) if symbol in both]

    def calculate(
        self,
        atoms: Atoms,
        properties: Sequence[str] = ('energy',),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute everything that a structure has, whatever is asked for.

        Args:
            atoms: The structure.
            properties: As of `FidelityCalculator`.
            system_changes: As ASE passes them.

        Raises:
            UserError: One of the models does not know an element of the structure.
        """
        for role, model in (('low', self.low), ('difference', self.difference)):
            foreign = sorted(set(atoms.symbols) - set(_symbols(model)))
            if foreign:
                raise UserError(
                    f'{self._paths[role]} ({role}) does not know '
                    f'{", ".join(foreign)}; both models know '
                    f'{", ".join(self.elements)}.'
                )
        super().calculate(atoms, properties, system_changes)
        own = self.implemented_properties
        found = self.results
        self.results = Results(
            {name: found[name] for name in found if name in own},
            {name: found[name] for name in found if name not in own},
        )

    @property
    def contributions(self) -> dict[str, list[Any]]:
        """By property, the part of `low` and that of the difference.

        Of the structure that was asked last.
        """
        end = '_contributions'  # as ASE's mixer names them
        names = [n for n in self.implemented_properties if n + end in self.results]
        return {name: self.results[name + end] for name in names}

    def todict(self) -> dict[str, Any]:
        """Return what ASE writes into its databases: both files and the fidelity."""
        return dict(self.parameters)


def _check_single(path: str, config: dict[str, Any]) -> None:
    names = config.get(KEY.MODAL_MAP) or {}
    if len(names) > 1:
        raise UserError(
            f'{path} has the fidelities {keys.by_index(names)}, but a model of the '
            'difference must have one. Give it as low, or export one fidelity of '
            'it (sevennet-mf export) if that was trained on differences.'
        )


def _check_meant_for(path: str, config: dict[str, Any], fidelity: str) -> None:
    """Refuse a difference to another fidelity, if both have names."""
    about = (config.get(keys.PROVENANCE) or {}).get('about') or {}
    for notes in about.values():
        told = str(notes.get(keys.DIFFERENCE_TO) or fidelity)
        if fidelity != UNNAMED and told.lower() != fidelity.lower():
            raise UserError(
                f'{path} is a model of the difference to {told!r}, but would be '
                f'added to {fidelity!r}. Choose fidelity={told!r}, or the model of '
                'that fidelity as low.'
            )


def _symbols(model: FidelityCalculator) -> list[str]:
    known = ~np.isnan(model._evaluator.runner.references[0])
    return [chemical_symbols[z] for z in np.flatnonzero(known)]
