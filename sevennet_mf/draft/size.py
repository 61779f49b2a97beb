"""How large a model and how long a run: by the data, then by the time available."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sevennet_mf.config.recipe import CONTINUED, FROM_SCRATCH, Recipe

# channels, and the number of structures above which they are worth their time
CHANNELS: Final = ((16, 0), (32, 2_000), (64, 20_000), (128, 200_000))
# structures per step, and the training structures above which it has so many
BATCHES: Final = ((4, 0), (8, 2_000), (16, 20_000))
BATCH_CONTINUED: Final[int] = 2
ATOMS: Final[int] = 1_000  # per step of several structures, at most
USED: Final[float] = 0.8  # of the time; the rest is for validation and other load
LEAST_EPOCH: Final[int] = 10  # steps; validation takes longer than fewer
# passes over the data that a run needs at least, and beyond which none helps
ENOUGH, MOST = 30, 60


@dataclass(frozen=True)
class Size:
    """A model and a run.

    Attributes:
        channels: None for the model of a checkpoint.
        batch: Structures per step.
        seconds: Duration of a step.
        is_short: Whether the run is shorter than the measured recipe.
    """

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
        """Duration of all steps, without validation."""
        return self.steps * self.seconds / 3600


def batch_for(structures: int, atoms: float, is_continued: bool) -> int:
    """Return the number of structures per step.

    Args:
        structures: Number of training structures.
        atoms: Mean number of atoms per structure.
        is_continued: Whether the run starts from a checkpoint.
    """
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
    """Return the largest model that the data justify and the time allows.

    Args:
        structures: Number of training structures of all levels; with a checkpoint,
            of the new level alone.
        batch: Structures per step.
        hours: Time available.
        time_of: Returns the seconds per step for a number of channels, or for the
            checkpoint if it is None.
        is_continued: Whether the run starts from a checkpoint.
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
