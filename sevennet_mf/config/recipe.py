"""The recipe: what training keys are where a multi-fidelity YAML leaves them out.

docs/recipe.md and docs/pretrained.md say what was measured to choose the numbers.
What a YAML says always wins, and what belongs to it goes with it: a loss, an
optimiser or a schedule of the user's own gets what fits that one.
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
# who a default is by
RECIPE, SEVENNET, CHECKPOINT = 'recipe', 'SevenNet', 'checkpoint'
COARSE: Final[int] = 10  # epochs: in fewer, the rate falls in large steps
STEP: Final[float] = 0.1  # what a schedule in steps multiplies the rate by

WEIGHTS: Final = (KEY.FORCE_WEIGHT, KEY.STRESS_WEIGHT)
# What is chosen by name, its parameters, and what else means something beside it
LOSS: Final = (KEY.LOSS, KEY.LOSS_PARAM, *WEIGHTS)
OPTIMIZER: Final = (KEY.OPTIMIZER, KEY.OPTIM_PARAM)
SCHEDULER: Final = (KEY.SCHEDULER, KEY.SCHEDULER_PARAM)


@dataclass(frozen=True)
class Recipe:
    """How to train.

    rate: learning rate at the start, of Adam and its kin; falls_to: the share of it
    that is left at the end; epochs, least_steps: without an `epoch` in the YAML so
    many epochs, each a pass over the data but of at least so many steps; delta: of
    the Huber loss, in eV/atom, eV/Å and kbar; force_weight, stress_weight: beside 1
    for energies, for that loss.
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
# weights that are few and begin at nothing
OWN_WEIGHTS: Final = replace(CONTINUED, rate=0.01)
# optimisers that the rate is good for
ADAMS: Final = ('adam', 'adamw', 'radam')


@dataclass(frozen=True)
class StartingPoint:
    """What training starts from, as far as the recipe asks.

    recipe: the one for it; reached: epochs done before, that are counted on;
    optimizer, schedule: the configuration of the checkpoint whose optimiser, or
    schedule, goes on; began: the one that a resumed run began with.
    """

    recipe: Recipe = FROM_SCRATCH
    reached: int = 0
    optimizer: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None
    began: Mapping[str, Any] | None = None


def recipe_for(is_continued: bool, update: str, encoding: str) -> Recipe:
    """The recipe of a run; update and encoding: as in the `fidelity` blocks."""
    if not is_continued:
        return FROM_SCRATCH
    # measured: a bias by itself does not profit from a larger rate
    own = update == 'fidelity_only' and encoding != 'bias'
    return OWN_WEIGHTS if own else CONTINUED


def completed(section: Config, start: StartingPoint) -> tuple[Config, Config]:
    """Return a section `train` with what it leaves out, and that by who it is by.

    section: checked by host_checks. The second: {who: {key: value}}; a key of a
    block has a dot in it. A resumed run gets what it began with.
    """
    filling = _Filling(section)
    if start.began is not None:
        filling.as_it_began(start.began)
        return filling.section, filling.by
    # the moments of an optimiser are those of a loss: both go on, or neither
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
        _schedule(filling, recipe, max(1, span))
    return filling.section, filling.by


def written(section: Config, left_out: Mapping[str, Mapping[str, Any]]) -> Config:
    """Return a section with what `completed` found it to leave out written down."""
    filling = _Filling(section)
    filling.put_named(left_out)
    return filling.section


def least_steps(
    section: Config, asked: int | None, start: StartingPoint
) -> int | None:
    """The least steps of an epoch; None where the YAML says how long the run is.

    section: as it is written; asked: train.fidelity.steps_per_epoch.
    """
    if start.began is not None:
        before = start.began.get(keys.FIDELITY_TRAIN) or {}
        found: int | None = before.get(keys.LEAST_STEPS)
        return found
    if asked is not None or KEY.EPOCH in section:
        return None
    return start.recipe.least_steps


def lines(by: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What `completed` filled in, for the log: a line for each it is by."""
    said = {
        RECIPE: 'the recipe',
        SEVENNET: "SevenNet's or torch's own, which fit the YAML's",
        CHECKPOINT: 'of the checkpoint, as it goes on',
    }
    found = [
        f'Defaults ({said[who]}): {as_text(values)}' for who, values in by.items()
    ]
    block = by.get(RECIPE, {}).get(KEY.SCHEDULER_PARAM) or {}
    falls = block.get('total_iters')
    if falls is not None and falls < COARSE:
        share = 1 - (1 - block['end_factor']) * (falls - 1) / falls
        found.append(
            f'The learning rate falls after each epoch, and is {share:.0%} of the '
            'first in the last one. More epochs, with a smaller '
            'train.fidelity.steps_per_epoch, bring it lower.'
        )
    return found


def as_text(values: Mapping[str, Any]) -> str:
    """`loss: huber, loss_param: {delta: 0.01}`."""
    return ', '.join(f'{name}: {flow(value)}' for name, value in values.items())


def flow(value: Any) -> str:
    """`{delta: 0.01}`: a value in one line, as in a YAML."""
    if isinstance(value, Mapping):
        return f'{{{as_text(value)}}}'
    return f'{value:g}' if isinstance(value, float) else str(value)


class _Filling:
    """A section, and what was put into it where it had nothing, by who it is by."""

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
        """Fill in what a block lacks; as a whole where there is none."""
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
        """Fill in groups of keys from a checkpoint, but beside another choice.

        Yields those that were filled in, and need nothing more.
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
        """Fill in what was filled in then, and all else that is not said any more.

        The latter is everything in a run that began before there was a recipe.
        """
        self.put_named(began.get(keys.DEFAULTS) or {})
        known = (*LOSS, *OPTIMIZER, *SCHEDULER, KEY.EPOCH)
        rest = {name: began[name] for name in known if name in began}
        self.put_named({CHECKPOINT: rest})

    def put_named(self, left_out: Mapping[str, Mapping[str, Any]]) -> None:
        """Fill in what is missing of keys by who they are by."""
        for who, values in left_out.items():
            for name, value in values.items():
                self.put(who, name, value)


def _loss(filling: _Filling, recipe: Recipe) -> None:
    filling.put(RECIPE, KEY.LOSS, recipe.loss)
    who, weights = RECIPE, (recipe.force_weight, recipe.stress_weight)
    if filling.word(KEY.LOSS) == recipe.loss:
        filling.put_all(RECIPE, KEY.LOSS_PARAM, {'delta': recipe.delta})
    else:  # squares of stress in kbar would outweigh all else with Huber's weights
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


def _schedule(filling: _Filling, recipe: Recipe, epochs: int) -> None:
    """A schedule over the epochs that the run has, down to the recipe's end."""
    given = filling.section.get(KEY.SCHEDULER_PARAM) or {}
    ours = _parameters(recipe.scheduler, recipe, epochs, 1.0)
    if KEY.SCHEDULER not in filling.section and not set(given) <= {*ours}:
        # they are of SevenNet's default scheduler, which could do without its name
        known = const.DEFAULT_TRAINING_CONFIG[KEY.SCHEDULER]
        filling.put(SEVENNET, KEY.SCHEDULER, known)
    filling.put(RECIPE, KEY.SCHEDULER, recipe.scheduler)
    rate = _number(filling.section[KEY.OPTIM_PARAM].get('lr'), recipe.rate)
    name = filling.word(KEY.SCHEDULER)
    values = _parameters(name, recipe, epochs, rate)
    if values:
        filling.put_all(RECIPE, KEY.SCHEDULER_PARAM, values)


def _parameters(name: str, recipe: Recipe, epochs: int, rate: float) -> Config:
    """Parameters of a scheduler that ends where the recipe does."""
    end = recipe.falls_to
    drops = max(1, round(math.log(end, STEP)))
    every = math.ceil(epochs / (drops + 1))
    found: dict[str, Config] = {
        'linearlr': {'start_factor': 1.0, 'end_factor': end, 'total_iters': epochs},
        'exponentiallr': {'gamma': end ** (1 / epochs)},
        'cosineannealinglr': {'T_max': epochs, 'eta_min': end * rate},
        'cosineannealingwarmuplr': {
            'first_cycle_steps': max(2, epochs),
            'max_lr': rate,
            'min_lr': end * rate,
        },
        'steplr': {'step_size': every, 'gamma': STEP},
        'multisteplr': {
            'milestones': [every * (k + 1) for k in range(drops)],
            'gamma': STEP,
        },
    }
    return found.get(name, {})  # the last one looks at the metric


def _number(value: Any, otherwise: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return otherwise  # torch says what is wrong with it

