"""The recipe: defaults of the training keys that a multi-fidelity YAML leaves out.

docs/recipe.md and docs/pretrained.md say what was measured to choose the numbers.
What a YAML says always wins, and its defaults follow: a loss, an optimiser or a
schedule of the user's own gets the parameters that suit it.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import sevenn._const as const
import sevenn._keys as KEY
from sevenn.train.optim import optim_dict

from sevennet_mf import keys

Config = dict[str, Any]
# where a default comes from
RECIPE, SEVENNET, CHECKPOINT = 'recipe', 'SevenNet', 'checkpoint'
COARSE: Final[int] = 10  # epochs: in fewer, the rate falls in large steps
STEP: Final[float] = 0.1  # what a schedule in steps multiplies the rate by
ONE_CYCLE: Final = 'onecyclelr'  # which SevenNet 0.13 does not have

WEIGHTS: Final = (KEY.FORCE_WEIGHT, KEY.STRESS_WEIGHT)
# What is chosen by name, its parameters, and other keys that depend on it
LOSS: Final = (KEY.LOSS, KEY.LOSS_PARAM, *WEIGHTS)
OPTIMIZER: Final = (KEY.OPTIMIZER, KEY.OPTIM_PARAM)
SCHEDULER: Final = (KEY.SCHEDULER, KEY.SCHEDULER_PARAM)


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        rate: initial learning rate of Adam and its variants.
        falls_to: the fraction of it that is left at the end.
        epochs: their number without an `epoch` in the YAML; each is a pass over the
            data.
        least_steps: the least steps of such an epoch.
        delta: of the Huber loss, in eV/atom, eV/Å and kbar.
        force_weight: for that loss, relative to 1 for energies.
        stress_weight: for that loss, relative to 1 for energies.
    """

    rate: float
    falls_to: float
    epochs: int
    least_steps: int
    loss: str = 'huber'
    delta: float = 0.01
    force_weight: float = 1.0
    stress_weight: float = 0.001
    optimizer: str = 'adam'
    scheduler: str = 'linearlr'


FROM_SCRATCH: Final = Recipe(
    rate=0.01, falls_to=0.001, epochs=30, least_steps=100
)
CONTINUED: Final = Recipe(rate=0.001, falls_to=0.01, epochs=10, least_steps=20)
# weights that are few and start from zero
OWN_WEIGHTS: Final = replace(CONTINUED, rate=0.01)
# optimisers that the rate suits
ADAMS: Final = ('adam', 'adamw', 'radam')


@dataclass(frozen=True)
class StartingPoint:
    """What training starts from, as far as the recipe needs it.

    Attributes:
        recipe: the one for this start.
        reached: epochs done before, from which counting continues.
        optimizer: the configuration of the checkpoint whose optimiser continues.
        schedule: the configuration of the checkpoint whose schedule continues.
        began: the configuration that a resumed run began with.
        schedule_by: train.fidelity.schedule_by.
    """

    recipe: Recipe = FROM_SCRATCH
    reached: int = 0
    optimizer: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None
    began: Mapping[str, Any] | None = None
    schedule_by: str | None = None


def recipe_for(is_continued: bool, update: str, encoding: str) -> Recipe:
    """Return the recipe of a run.

    Args:
        update: as train.fidelity.update.
        encoding: as model.fidelity.encoding.
    """
    if not is_continued:
        return FROM_SCRATCH
    # measured: a bias by itself does not profit from a larger rate
    own = update == 'fidelity_only' and encoding != 'bias'
    return OWN_WEIGHTS if own else CONTINUED


def completed(section: Config, start: StartingPoint) -> tuple[Config, Config]:
    """Return a `train` section with its missing keys, and these by their origin.

    A resumed run gets what it began with.

    Args:
        section: checked by host_checks.

    Returns:
        The section, and {origin: {key: value}} of what was filled in; a key of a
        block has a dot in it.
    """
    filling = _Filling(section)
    if start.began is not None:
        filling.as_it_began(start.began)
        return filling.section, filling.by
    # the moments of an optimiser belong to a loss: both continue, or neither
    done = [
        *filling.gone_on(start.optimizer, LOSS, OPTIMIZER),
        *filling.gone_on(start.schedule, SCHEDULER),
    ]
    recipe = start.recipe
    filling.put(RECIPE, KEY.EPOCH, start.reached + recipe.epochs)
    if LOSS not in done:
        _loss(filling, recipe)
    if OPTIMIZER not in done:
        _optimizer(filling, recipe)
    if SCHEDULER not in done:
        span = int(filling.section[KEY.EPOCH]) - start.reached
        _schedule(filling, start, max(1, span))
    return filling.section, filling.by


def written(section: Config, left_out: Mapping[str, Mapping[str, Any]]) -> Config:
    """Return a section with the keys that `completed` filled in."""
    filling = _Filling(section)
    filling.put_named(left_out)
    return filling.section


def least_steps(
    section: Config, asked: int | None, start: StartingPoint
) -> int | None:
    """Return the least steps of an epoch; None if the YAML sets the run's length.

    Args:
        section: `train`, as it is written.
        asked: train.fidelity.steps_per_epoch.
    """
    if start.began is not None:
        before = start.began.get(keys.FIDELITY_TRAIN) or {}
        found: int | None = before.get(keys.LEAST_STEPS)
        return found
    if asked is not None or KEY.EPOCH in section:
        return None
    return start.recipe.least_steps


def lines(by: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what `completed` filled in, for the log: a line for each origin."""
    said = {
        RECIPE: 'the recipe',
        SEVENNET: "SevenNet's or torch's, to go with the values in the YAML",
        CHECKPOINT: 'from the checkpoint that is continued',
    }
    found = [
        f'Defaults ({said[who]}): {as_text(values)}' for who, values in by.items()
    ]
    block = by.get(RECIPE, {}).get(KEY.SCHEDULER_PARAM) or {}
    falls = block.get('total_iters')
    if falls is not None and falls < COARSE:
        share = 1 - (1 - block['end_factor']) * (falls - 1) / falls
        found.append(
            f'The learning rate decreases after each epoch, to {share:.0%} of its '
            'initial value in the last one. More epochs, with a smaller '
            'train.fidelity.steps_per_epoch, lower it further.'
        )
    return found


def as_text(values: Mapping[str, Any]) -> str:
    """Return keys as text: `loss: huber, loss_param: {delta: 0.01}`."""
    return ', '.join(f'{name}: {flow(value)}' for name, value in values.items())


def flow(value: Any) -> str:
    """Return a value on one line, as in a YAML: `{delta: 0.01}`."""
    if isinstance(value, Mapping):
        return f'{{{as_text(value)}}}'
    return f'{value:g}' if isinstance(value, float) else str(value)


class _Filling:
    """A section, and what was filled in where it had nothing, by its origin."""

    def __init__(self, section: Config) -> None:
        self.section = copy.deepcopy(section)
        self.by: Config = {}

    def put(self, who: str, name: str, value: Any) -> None:
        """Fill in a key; `block.key` fills in a key of a block."""
        block, _, inner = name.rpartition('.')
        place = self.section.setdefault(block, {}) if block else self.section
        if inner not in place:
            place[inner] = copy.deepcopy(value)
            self.by.setdefault(who, {})[name] = copy.deepcopy(value)

    def put_all(self, who: str, block: str, values: Mapping[str, Any]) -> None:
        """Fill in what a block lacks, or the whole block if it is missing."""
        if block not in self.section:
            self.put(who, block, values)
            return
        for name, value in values.items():
            self.put(who, f'{block}.{name}', value)

    def word(self, name: str) -> str:
        return str(self.section.get(name, '')).lower()

    def gone_on(
        self, before: Mapping[str, Any] | None, *groups: tuple[str, ...]
    ) -> Iterator[tuple[str, ...]]:
        """Fill in groups of keys from a checkpoint, unless the YAML chooses others.

        Yields:
            The groups that were filled in, and need nothing more.
        """
        if before is None:
            return
        for name, block, *more in groups:
            is_chosen = name in self.section or block in self.section
            if is_chosen and self.word(name) != str(before.get(name)).lower():
                continue
            for key in (name, block, *more):
                if before.get(key) is not None:
                    self.put(CHECKPOINT, key, before[key])
            yield name, block, *more

    def as_it_began(self, began: Mapping[str, Any]) -> None:
        """Fill in what was filled in then, and all that the YAML no longer says.

        The latter is everything in a run that began before there was a recipe.
        """
        self.put_named(began.get(keys.DEFAULTS) or {})
        known = (*LOSS, *OPTIMIZER, *SCHEDULER, KEY.EPOCH)
        rest = {name: began[name] for name in known if name in began}
        self.put_named({CHECKPOINT: rest})

    def put_named(self, left_out: Mapping[str, Mapping[str, Any]]) -> None:
        """Fill in missing keys; left_out: by their origin, as `by`."""
        for who, values in left_out.items():
            for name, value in values.items():
                self.put(who, name, value)


def _loss(filling: _Filling, recipe: Recipe) -> None:
    filling.put(RECIPE, KEY.LOSS, recipe.loss)
    who, weights = RECIPE, (recipe.force_weight, recipe.stress_weight)
    if filling.word(KEY.LOSS) == recipe.loss:
        filling.put_all(RECIPE, KEY.LOSS_PARAM, {'delta': recipe.delta})
    else:  # with Huber's weights, squares of stress in kbar would outweigh all else
        known = const.DEFAULT_TRAINING_CONFIG
        who, weights = SEVENNET, tuple(known[name] for name in WEIGHTS)
    force, stress = WEIGHTS
    filling.put(who, force, weights[0])
    if filling.section.get(KEY.IS_TRAIN_STRESS, True):
        filling.put(who, stress, weights[1])


def _optimizer(filling: _Filling, recipe: Recipe) -> None:
    filling.put(RECIPE, KEY.OPTIMIZER, recipe.optimizer)
    name = filling.word(KEY.OPTIMIZER)
    if name in ADAMS:
        filling.put_all(RECIPE, KEY.OPTIM_PARAM, {'lr': recipe.rate})
        return
    own = inspect.signature(optim_dict[name]).parameters['lr'].default
    filling.put_all(SEVENNET, KEY.OPTIM_PARAM, {'lr': own})


def _schedule(filling: _Filling, start: StartingPoint, epochs: int) -> None:
    """A schedule over the epochs that the run has, down to the recipe's end.

    One that counts steps gets its parameters later, when their number is known.
    """
    recipe, given = start.recipe, filling.section.get(KEY.SCHEDULER_PARAM) or {}
    ours = scheduled(recipe.scheduler, recipe, epochs)
    if KEY.SCHEDULER not in filling.section and not set(given) <= {*ours}:
        # they belong to SevenNet's default scheduler, which needs no name
        known = const.DEFAULT_TRAINING_CONFIG[KEY.SCHEDULER]
        filling.put(SEVENNET, KEY.SCHEDULER, known)
    filling.put(RECIPE, KEY.SCHEDULER, recipe.scheduler)
    name = filling.word(KEY.SCHEDULER)
    rate = filling.section[KEY.OPTIM_PARAM].get('lr')
    values = scheduled(name, recipe, epochs, rate)
    if values and not counts_steps(name, start.schedule_by):
        filling.put_all(RECIPE, KEY.SCHEDULER_PARAM, values)


def counts_steps(scheduler: str, asked: str | None) -> bool:
    """Whether a schedule counts steps rather than epochs.

    Args:
        asked: train.fidelity.schedule_by.
    """
    return (asked or ('step' if scheduler.lower() == ONE_CYCLE else '')) == 'step'


def scheduled(name: str, recipe: Recipe, length: int, rate: Any = None) -> Config:
    """Return parameters of a scheduler that ends where the recipe does.

    Args:
        length: epochs or steps, whichever it counts.
        rate: the learning rate; the recipe's if it is not a number.
    """
    end, rate = recipe.falls_to, _number(rate, recipe.rate)
    drops = max(1, round(math.log(end, STEP)))
    every = math.ceil(length / (drops + 1))
    found: dict[str, Config] = {
        'linearlr': {'start_factor': 1.0, 'end_factor': end, 'total_iters': length},
        'exponentiallr': {'gamma': end ** (1 / length)},
        'cosineannealinglr': {'T_max': length, 'eta_min': end * rate},
        'cosineannealingwarmuplr': {
            'first_cycle_steps': max(2, length),
            'max_lr': rate,
            'min_lr': end * rate,
        },
        'steplr': {'step_size': every, 'gamma': STEP},
        'multisteplr': {
            'milestones': [every * (k + 1) for k in range(drops)],
            'gamma': STEP,
        },
        ONE_CYCLE: {'max_lr': rate, 'total_steps': length},
    }
    return found.get(name, {})  # the last one depends on the metric


def _number(value: Any, otherwise: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return otherwise  # torch says what is wrong with it

