"""How large a model and how long a run: by the data, then by the time there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sevennet_mf.config.recipe import CONTINUED, FROM_SCRATCH, Recipe

# channels, and the structures from which on they are worth their time
CHANNELS: Final = ((16, 0), (32, 2_000), (64, 20_000), (128, 200_000))
# structures of a step, and those in training from which on a step has so many
BATCHES: Final = ((4, 0), (8, 2_000), (16, 20_000))
BATCH_CONTINUED: Final[int] = 2
ATOMS: Final[int] = 1_000  # of a step of several structures, at most
USED: Final[float] = 0.8  # of the time: validation, and a machine that does more
LEAST_EPOCH: Final[int] = 10  # steps; of fewer, validation takes longer
# passes over the data that a run needs at least, and that it profits from at most
ENOUGH, MOST = 30, 60


@dataclass(frozen=True)
class Size:
    """A model and a run. seconds: of a step; channels: None, of a checkpoint."""

    channels: int | None
    batch: int
    epochs: int
    steps_per_epoch: int
    seconds: float
    is_short: bool

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def hours(self) -> float:
        """What the steps take, without validation."""
        return self.steps * self.seconds / 3600


def batch_for(structures: int, atoms: float, is_continued: bool) -> int:
    """Structures of a step; atoms: of one on average."""
    batch = BATCH_CONTINUED
    if not is_continued:
        batch = max(size for size, least in BATCHES if structures >= least)
    while batch > 1 and batch * atoms > ATOMS:
        batch //= 2
    return batch


def size_for(
    structures: int,
    batch: int,
    hours: float,
    time_of: Callable[[int | None], float],
    is_continued: bool,
) -> Size:
    """Return the largest model that the data are worth and the time allows.

    structures: of all levels, of a checkpoint that goes on those of the new one;
    time_of: the seconds of a step with so many channels.
    """
    recipe = CONTINUED if is_continued else FROM_SCRATCH
    in_a_pass = max(1, round(structures / batch))
    usual = recipe.epochs * recipe.least_steps
    worth: list[int | None] = [n for n, least in CHANNELS if structures >= least]
    for channels in [None] if is_continued else reversed(worth):
        seconds = time_of(channels)
        fit = int(USED * 3600 * hours / seconds)
        passes = 1 if is_continued else ENOUGH
        if fit >= max(usual, passes * in_a_pass):
            break
    most = max(usual, (recipe.epochs if is_continued else MOST) * in_a_pass)
    steps = max(LEAST_EPOCH, min(fit, most))
    epochs = max(1, min(recipe.epochs, steps // LEAST_EPOCH))
    return Size(
        channels, batch, epochs, steps // epochs, seconds, _is_short(fit, recipe)
    )


def _is_short(fit: int, recipe: Recipe) -> bool:
    return fit < recipe.epochs * recipe.least_steps
