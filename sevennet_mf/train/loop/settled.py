"""What is settled before the first step of a run, and stays so to its last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sevennet_mf import keys
from sevennet_mf.config.run_inputs import RunInputs
from sevennet_mf.data.dataset import FidelityDataset


@dataclass(frozen=True, eq=False)
class Settled:
    """The data of a run, and the model that they and the YAML imply.

    Attributes:
        inputs: the YAML's.
        names: the fidelities by their index in the model.
        sets: by name, with the reference energies subtracted.
        config: the host's, from which the model is built and which checkpoints
            contain: elements, shift, scale and provenance are in it.
    """

    inputs: RunInputs
    names: tuple[str, ...]
    sets: dict[str, FidelityDataset]
    config: dict[str, Any]

    @property
    def provenance(self) -> dict[str, Any]:
        """What a checkpoint says about itself: see provenance.describe."""
        return dict(self.config[keys.PROVENANCE])
