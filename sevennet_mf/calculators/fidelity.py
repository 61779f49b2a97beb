"""ASE's calculator for one fidelity of a model, a mixture, or all of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)

from sevennet_mf.calculators.evaluator import Evaluator, Properties
from sevennet_mf.calculators.mixture import mix, refuse_others, weights_of
from sevennet_mf.calculators.reference_warnings import doubtful
from sevennet_mf.errors import UserError
from sevennet_mf.model.load import load_model


class FidelityCalculator(Calculator):
    """ASE calculator for one fidelity of a model, or for a mixture of several.

    It computes `energy` and `free_energy` (the same, eV), `energies` (n_atoms,) in
    eV, `forces` (n_atoms, 3) in eV/Å, and `stress` (6,) in eV/Å^3 as xx, yy, zz, yz,
    xz, xy, positive under tension. A structure without a volume has no stress;
    asking for it raises ASE's `PropertyNotImplementedError`. For mixtures, `results`
    also answers to `denergy_dweights` and `denergy_dlambda`: what
    `get_denergy_dweights` and `get_denergy_dlambda` return.

    Args:
        checkpoint: Path of a checkpoint of this package or of SevenNet, or the name
            of a pretrained model.
        fidelity: A name; or weights by name that sum to one, such as
            `{'pbe': 0.3, 'r2scan': 0.7}`, for the mixture sum_f w_f E_f; or None if
            the model has one fidelity only.
        device: `'cpu'`, `'cuda'`, or `'auto'` for a GPU if there is one.
        enable_cueq: Compute with cuEquivariance.
        enable_flash: Compute with FlashTP.
        enable_oeq: Compute with OpenEquivariance.
        trust: Read a checkpoint that runs code; only for one you made yourself.
        others: None is known: a misspelt name is an error.

    Raises:
        UserError: One of these cannot be used.
    """

    implemented_properties = [
        'energy',
        'free_energy',
        'energies',
        'forces',
        'stress',
    ]
    results: Properties
    # the model depends on neither
    ignored_changes = {'initial_charges', 'initial_magmoms'}

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        fidelity: str | Mapping[str, float] | None = None,
        device: str | torch.device = 'auto',
        *,
        enable_cueq: bool = False,
        enable_flash: bool = False,
        enable_oeq: bool = False,
        trust: bool = False,
        **others: Any,
    ) -> None:
        refuse_others(others)
        loaded = load_model(
            os.fspath(checkpoint),
            enable_cueq=enable_cueq,
            enable_flash=enable_flash,
            enable_oeq=enable_oeq,
            trust=trust,
        )
        self._weights = weights_of(fidelity, loaded.fidelities)
        self._doubtful = {name: doubtful(loaded, name) for name in loaded.fidelities}
        # lines of warning by name; each is said once
        self.differences = loaded.differences
        self._evaluator = Evaluator(loaded, device)
        super().__init__()
        # ASE writes them into its databases
        self.parameters.update(checkpoint=loaded.path, fidelity=self.fidelity)

    @property
    def fidelities(self) -> tuple[str, ...]:
        """The names of all fidelities of the model."""
        return self._evaluator.fidelities

    @property
    def fidelity(self) -> str | dict[str, float]:
        """The fidelity, or the weights of a mixture; can be set between steps."""
        if len(self._weights) == 1:
            return next(iter(self._weights))
        return dict(self._weights)

    @fidelity.setter
    def fidelity(self, fidelity: str | Mapping[str, float] | None) -> None:
        self._weights = weights_of(fidelity, self.fidelities)
        self.parameters.update(fidelity=self.fidelity)
        self.results = {}

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Change the fidelity, ASE's way; nothing else can be changed.

        Args:
            parameters: `fidelity`, as of the class.

        Returns:
            What was changed.

        Raises:
            UserError: Another parameter, or a fidelity that the model lacks.
        """
        for name in parameters:
            if name != 'fidelity':
                raise UserError(
                    f'{name} of a FidelityCalculator cannot be set; only fidelity '
                    'can. Make a new calculator.'
                )
        if parameters:
            self.fidelity = parameters['fidelity']
        return parameters

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ('energy',),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute everything that a structure has, whatever is asked for.

        Args:
            atoms: The structure.
            properties: ASE's names; only `'stress'` makes a difference, which a
                structure may lack.
            system_changes: As ASE passes them; not used.

        Raises:
            PropertyNotImplementedError: The stress of a structure without a volume
                is asked for.
            UserError: The structure has no energy in this model.
        """
        super().calculate(atoms, properties, system_changes)
        self.results = {}  # those of another structure must not outlive an error
        self._warn_of(self._structure())
        parts = self._evaluator.evaluate(self._structure(), list(self._weights))
        self.results = mix(parts, self._weights)
        if 'stress' in properties and 'stress' not in self.results:
            raise PropertyNotImplementedError(
                'the cell of the structure has no volume, so its stress is '
                'undefined. Give it a cell, or do not ask for its stress.'
            )

    def _warn_of(self, atoms: Atoms) -> None:
        """Warn, once, of differences and of elements without labels."""
        for name, weight in self._weights.items():
            if weight and name in self.differences:
                warnings.warn(self.differences.pop(name), stacklevel=4)
            untold = self._doubtful[name]
            if weight and untold:  # most models have none: nothing for each step
                for symbol in sorted(untold.keys() & set(atoms.symbols)):
                    warnings.warn(untold.pop(symbol), stacklevel=4)

    def all_fidelities(self, atoms: Atoms | None = None) -> dict[str, Properties]:
        """Evaluate a structure at every fidelity of the model at once.

        There is one neighbour list, and one batch with a copy of the structure for
        each fidelity, or several batches if they are large.

        Args:
            atoms: The structure; as it was last, if left out.

        Returns:
            By fidelity, a dictionary with `energy`, `free_energy`, `energies`,
            `forces` and `stress`, in the units of the class; no stress without a
            volume.

        Raises:
            UserError: There is no structure yet, or it has no energy in this model.
        """
        chosen = self._structure() if atoms is None else atoms
        return self._evaluator.evaluate(chosen, self.fidelities)

    def get_denergy_dweights(self, atoms: Atoms | None = None) -> dict[str, float]:
        """Return the derivative of the energy with respect to each weight.

        Args:
            atoms: The structure; as it was last, if left out.

        Returns:
            dE/dw_f = E_f in eV, by name, for each fidelity of the mixture.
        """
        energy = self.get_potential_energy(atoms)
        if len(self._weights) == 1:
            return {next(iter(self._weights)): energy}
        return dict(self.results['denergy_dweights'])

    def get_denergy_dlambda(self, atoms: Atoms | None = None) -> float:
        """Return dE/dlambda of the mixture `{'a': 1 - lambda, 'b': lambda}`.

        Args:
            atoms: The structure; as it was last, if left out.

        Returns:
            E_b - E_a in eV; lambda is the weight of the fidelity named second.

        Raises:
            UserError: This is not a mixture of two.
        """
        if len(self._weights) != 2:
            raise UserError(
                f'dE/dlambda needs a mixture of two fidelities, and this one has '
                f'{self.fidelity}. Set fidelity={{A: 1 - x, B: x}}; x may be 0.'
            )
        self.get_potential_energy(atoms)
        return float(self.results['denergy_dlambda'])

    def _structure(self) -> Atoms:
        if self.atoms is None:
            raise UserError('there is no structure yet: give atoms.')
        return self.atoms
