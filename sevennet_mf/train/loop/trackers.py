"""The numbers in lc.csv for TensorBoard and Weights & Biases as well."""

from __future__ import annotations

import importlib
import os
import uuid
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final, Protocol

from sevenn.logger import Logger

from sevennet_mf.errors import UserError
from sevennet_mf.train.loop.curve import Values
from sevennet_mf.train.loop.resume import State

WHERE: Final = 'train.fidelity.report_to'
# word of the YAML -> the modules that it needs
MODULES: Final[dict[str, tuple[str, ...]]] = {
    'tensorboard': ('tensorboard', 'torch.utils.tensorboard'),
    'wandb': ('wandb',),
}
FOLDER: Final = 'tensorboard'


class Tracker(Protocol):
    """A program that shows numbers of a training."""

    def report(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Record the numbers of an epoch."""

    def close(self) -> None:
        """Write what is left to write."""


def need(name: str) -> ModuleType:
    """Import what a word of `report_to` needs, and return its last module.

    Raises:
        UserError: It is not installed; the message names the extra.
    """
    try:
        found = [importlib.import_module(module) for module in MODULES[name]]
    except ImportError as error:
        raise UserError(
            f': {name!r} needs a package that is not installed ({error.name}). Run '
            f"`pip install 'sevennet_mf[{name}]'`, or remove the word.",
            WHERE,
        ) from None
    return found[-1]


class TensorBoard:
    """Event files in a folder of their own for each lc.csv."""

    def __init__(self, folder: str, state: State) -> None:
        name = os.path.splitext(state.curve)[0]
        # epochs that are done again replace what was written of them
        self.writer = need('tensorboard').SummaryWriter(
            os.path.join(folder, FOLDER, name), purge_step=state.epoch
        )

    def report(self, epoch: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases, which a resumed training continues.

    Its project, name and mode are those of the variables WANDB_….
    """

    def __init__(self, folder: str, state: State, config: Mapping[str, Any]) -> None:
        state.wandb = state.wandb or uuid.uuid4().hex[:8]
        try:
            self.run = need('wandb').init(
                dir=folder, id=state.wandb, resume='allow', config=dict(config)
            )
        except UserError:
            raise
        except Exception as error:  # of the service, of many kinds
            why = ' '.join(str(error).split()).rstrip('.')
            raise UserError(
                f": 'wandb' could not be started: {why}. Run `wandb login`, set "
                'WANDB_MODE=offline, or remove the word.',
                WHERE,
            ) from None

    def report(self, epoch: int, numbers: Mapping[str, float]) -> None:
        self.run.log(dict(numbers), step=epoch)

    def close(self) -> None:
        self.run.finish()


class Trackers:
    """All trackers of a run; one that fails is left out, and the run goes on."""

    def __init__(self) -> None:
        self.opened: dict[str, Tracker] = {}

    def open(
        self,
        names: Sequence[str],
        folder: str,
        state: State,
        config: Mapping[str, Any],
    ) -> None:
        """Start the trackers of a run.

        Args:
            names: train.fidelity.report_to.
            folder: the output folder.
            state: of the run; it gets the id of a run at Weights & Biases.
            config: the sections of the YAML, for those that show them.

        Raises:
            UserError: One is not installed, or cannot start.
        """
        if 'tensorboard' in names:
            self.opened['tensorboard'] = TensorBoard(folder, state)
        if 'wandb' in names:
            self.opened['wandb'] = WeightsAndBiases(folder, state, config)

    def report(self, epoch: int, own: Mapping[str, float], values: Values) -> None:
        """Record the numbers of an epoch, as '<metric>/<set>_<fidelity>'.

        Args:
            own: numbers that belong to no set, such as the learning rate.
        """
        numbers = dict(own)
        for name, by_fidelity in values.items():
            for fidelity, metrics in by_fidelity.items():
                for metric, value in metrics.items():
                    numbers[f'{metric}/{name}_{fidelity}'] = value
        for word, tracker in list(self.opened.items()):
            try:
                tracker.report(epoch, numbers)
            except Exception as error:  # a full disk, a service that is gone
                self._give_up(word, error)

    def close(self) -> None:
        """Finish all of them."""
        for word, tracker in list(self.opened.items()):
            try:
                tracker.close()
            except Exception as error:
                self._give_up(word, error)

    def _give_up(self, word: str, error: Exception) -> None:
        del self.opened[word]
        message = (
            f'{WHERE}: {word} gets no more numbers: {error}. lc.csv has them all.'
        )
        Logger().writeline(f'WARNING: {message}')
        warnings.warn(message, UserWarning, stacklevel=3)
