"""Words of a YAML that later versions of SevenNet have, and what they are here.

SevenNet's public branch `omni-train` adds them. Each is understood, or refused with
the key that does the same; none is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import sevenn._keys as KEY
from sevenn.train.optim import scheduler_dict

from sevennet_mf.config.blocks import TrainFidelity, validate
from sevennet_mf.config.recipe import ONE_CYCLE
from sevennet_mf.errors import UserError, said_as

Config = dict[str, Any]
PLACE: Final = 'train.fidelity'
MARK: Final = 'TRAIN_BY_BATCH'  # in `sevenn._keys` of a version that has them


@dataclass(frozen=True)
class Word:
    """A key of the YAML, or a value of one.

    Attributes:
        key: From the section on, `*` for any text within a name.
        remedy: What to do instead; with `ours`, what else there is to say of it.
        ours: The key of train.fidelity that does the same.
        moves: Whether a value means the same there: then it goes there.
        off: Values with which it does nothing.
        is_meant: Whether a value is a later one, of a key that SevenNet 0.13 has.
    """

    key: str
    remedy: str = ''
    ours: str = ''
    moves: bool = False
    off: tuple[Any, ...] = (None, False)
    is_meant: Callable[[Any], bool] = lambda value: True

    def is_off(self, value: Any) -> bool:
        """Whether a value does nothing; a 0 is not False, as Python has it."""
        return any(
            value == idle and isinstance(value, bool) == isinstance(idle, bool)
            for idle in self.off
        )


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and not value.is_integer()


def _records_weights(value: Any) -> bool:
    names = [row[0] for row in value or () if isinstance(row, list) and row]
    return bool({'L2_modal', 'Modal_cos'}.intersection(map(str, names)))


WORDS: Final = (
    Word('model.train_shift', 'Use model.train_shift_scale, which trains both.'),
    Word('model.train_scale', 'Use model.train_shift_scale, which trains both.'),
    Word(
        'train.train_by_batch',
        'Remove it: train.fidelity.checkpoint_every writes a resumable checkpoint '
        'within an epoch, and train.fidelity.steps_per_epoch sets its length.',
    ),
    Word(
        'train.per_epoch',
        'Give whole epochs; train.fidelity.steps_per_epoch makes them shorter.',
        is_meant=_is_fraction,
    ),
    Word(
        'train.regularization_param',
        'Use train.fidelity.regularization; the page on training in the '
        'documentation has the conversion.',
        off=(None, False, {}, {'modal': {}}, {'modal': None}),
    ),
    Word('train.grad_clip', ours='grad_clip', moves=True),
    Word(
        'train.energy_loss_weight',
        ours='energy_loss_weight',
        moves=True,
        off=(None, 1, 1.0),
    ),
    Word(
        'train.scheduler_param.scheduler_batch_mode',
        ': step, and count the parameters of the schedule in steps',
        ours='schedule_by',
    ),
    Word(
        'train.loss',
        ', which has a loss for each label; the weights of labels are '
        'train.force_loss_weight and train.stress_loss_weight',
        ours='loss',
        is_meant=lambda value: isinstance(value, dict),
    ),
    Word(
        'train.error_record',
        'Remove L2_modal and Modal_cos: Theta_Energy, which is always recorded, is '
        'what the weights of a fidelity add to its energies.',
        is_meant=_records_weights,
    ),
    Word(
        'train.continue.reset_data_progress',
        'Remove it: `sevennet-mf train --resume` goes on within an epoch.',
        off=(None, True),
    ),
    Word(
        'data.loader_kwargs',
        'Remove it: batches are put together as training needs them.',
        off=(None, False, {}),
    ),
    Word(
        'data.dataset_type',
        'Remove it: a script that makes data is not run. Name its files under '
        'load_trainset_path; `.aselmdb` is read as it is.',
        is_meant=lambda value: value == 'custom',
    ),
    Word(
        'data.load_*_sequence',
        'Remove it: `index` of an entry chooses structures.',
        off=(None, False, {}),
    ),
)


def understood(sections: Config) -> Config:
    """Return sections with a fidelity in the words of this version.

    Raises:
        UserError: A later word has another meaning here, or none.
    """
    sections = {name: dict(block) for name, block in sections.items()}
    model = sections['model']
    if model.get('train_shift') is True is model.get('train_scale'):
        model.setdefault('train_shift_scale', True)
        del model['train_shift'], model['train_scale']
    for word, path, block, name in _found(sections):
        value = block.pop(name)
        if word.is_off(value):
            continue
        if not word.moves or word.ours not in TrainFidelity.model_fields:
            raise _refusal(word, path, value)
        own = dict(sections['train'].get('fidelity') or {})
        if word.ours in own:
            raise UserError(
                f'{path} and train.fidelity.{word.ours} are the same. Remove one of '
                'the two.'
            )
        with said_as({f'{PLACE}.{word.ours}': path}):  # as it was written
            validate(TrainFidelity, {word.ours: value}, PLACE)
        sections['train']['fidelity'] = {**own, word.ours: value}
    return sections


def refuse(sections: Config) -> None:
    """Refuse words that the installed SevenNet would ignore, without a fidelity.

    Raises:
        UserError: There is one; SevenNet would warn at most, and train without it.
    """
    if hasattr(KEY, MARK):
        return
    blocks = {name: b for name, b in sections.items() if isinstance(b, dict)}
    for word, path, block, name in _found({k: dict(v) for k, v in blocks.items()}):
        if not word.is_off(block[name]):
            raise _refusal(word, path, block[name], without=True)
    schedule = str(blocks.get('train', {}).get(KEY.SCHEDULER, '')).lower()
    if schedule == ONE_CYCLE and schedule not in scheduler_dict:
        raise UserError(
            f'train.scheduler: {schedule} needs a `fidelity` block: SevenNet has no '
            f'such schedule. Add one, or choose one of {sorted(scheduler_dict)}.'
        )


def _found(sections: Config) -> Iterator[tuple[Word, str, Config, str]]:
    """Each later word that is there: its path, and the block and name to change.

    Blocks within the sections are copied: the caller may change them.
    """
    for word in WORDS:
        section, *inner, last = word.key.split('.')
        block = sections.get(section)
        for name in inner:
            if isinstance(block, dict) and isinstance(block.get(name), dict):
                block[name] = dict(block[name])
                block = block[name]
            else:
                block = None
        start, star, end = last.partition('*')
        for name in list(block or ()):
            fits = name == last or (
                star and str(name).startswith(start) and str(name).endswith(end)
            )
            if block is not None and fits and word.is_meant(block[name]):
                yield word, '.'.join([section, *inner, str(name)]), block, str(name)


def _refusal(word: Word, path: str, value: Any, without: bool = False) -> UserError:
    """The line for a word; without: whether the YAML has no fidelity."""
    if not word.ours:
        remedy = word.remedy
    elif word.ours in TrainFidelity.model_fields:
        remedy = f'Use train.fidelity.{word.ours}{word.remedy}.'
    else:
        remedy = 'Remove it: there is nothing like it here.'
    if without:
        remedy = (
            'The installed one would ignore it: remove it. In a YAML with a '
            f'`fidelity` block: {remedy}'
        )
    return UserError(
        f'{path}: {value!r} belongs to a later version of SevenNet. {remedy}'
    )
