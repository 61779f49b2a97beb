"""Words of a later SevenNet: understood, or refused with ours; never ignored."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import sevenn._const as const
import sevenn._keys as KEY
from helpers import sections

from sevennet_mf.config import inputs, later_host
from sevennet_mf.config.blocks import TrainFidelity
from sevennet_mf.config.later_host import WORDS, Word
from sevennet_mf.errors import UserError

# (section, key, a value that does something, what is said of it)
DOING: tuple[tuple[str, str, Any, str], ...] = (
    ('model', 'train_shift', True, 'Use model.train_shift_scale'),
    ('model', 'train_scale', True, 'Use model.train_shift_scale'),
    ('train', 'train_by_batch', True, 'train.fidelity.checkpoint_every'),
    ('train', 'per_epoch', 0.1, 'Give whole epochs'),
    (
        'train',
        'regularization_param',
        {'modal': {'regularization_weight': 1e-5}},
        'Use train.fidelity.regularization',
    ),
    ('train', 'grad_clip', 10.0, 'grad_clip'),
    ('train', 'energy_loss_weight', 2.0, 'energy_loss_weight'),
    ('train', 'scheduler_param', {'scheduler_batch_mode': True}, 'batch_mode: True'),
    ('train', 'loss', {'force': {'loss_type': 'l2mae'}}, 'train.loss: {'),
    ('train', 'error_record', [['L2_modal', 'Loss']], 'Theta_Energy'),
    ('train', 'error_record', [['Modal_cos', 'None']], 'Theta_Energy'),
    (
        'train',
        'continue',
        {'checkpoint': '7net-0', 'reset_data_progress': False},
        'train.continue.reset_data_progress: False',
    ),
    ('data', 'loader_kwargs', {'pin_memory': True}, 'batches are put together'),
    ('data', 'dataset_type', 'custom', 'a script that makes data is not run'),
    ('data', 'load_trainset_sequence', {'total_sequence_path': 'a.npy'}, '`index`'),
)
# values that do nothing there, as its presets have them
IDLE: tuple[tuple[str, str, Any], ...] = (
    ('model', 'train_shift', False),
    ('train', 'train_by_batch', False),
    ('train', 'regularization_param', {}),
    ('train', 'regularization_param', {'modal': {}}),
    ('train', 'grad_clip', None),
    ('train', 'energy_loss_weight', 1.0),
    ('train', 'scheduler_param', {'gamma': 0.9, 'scheduler_batch_mode': False}),
    ('data', 'loader_kwargs', {}),
)


def with_word(section: str, key: str, value: Any) -> dict[str, Any]:
    yaml = sections()
    yaml[section][key] = copy.deepcopy(value)
    return yaml


def fields() -> list[str]:
    return list(TrainFidelity.model_fields)


@pytest.mark.parametrize(('section', 'key', 'value', 'said'), DOING)
def test_each_is_understood_or_refused(
    section: str, key: str, value: Any, said: str
) -> None:
    """A key of ours with the same meaning takes the value, where there is one."""
    yaml = with_word(section, key, value)
    word = next(w for w in WORDS if w.key.startswith(f'{section}.{key[:5]}'))
    if word.moves and word.ours in fields():
        read = inputs.read(yaml)
        assert getattr(read.train, word.ours) == value
        return
    with pytest.raises(UserError) as caught:
        inputs.read(yaml)
    text = str(caught.value)
    assert said in text
    assert 'belongs to a later version of SevenNet' in text
    assert text.startswith(f'{section}.{key}')
    assert '\n' not in text


@pytest.mark.parametrize(('section', 'key', 'value'), IDLE)
def test_what_does_nothing_is_left_out(section: str, key: str, value: Any) -> None:
    yaml = with_word(section, key, value)
    given = copy.deepcopy(yaml)
    read = inputs.read(yaml)
    assert yaml == given
    assert read.host.get(key) != value or value in (None, {}, False)


def test_both_of_shift_and_scale_are_our_word_for_them() -> None:
    yaml = with_word('model', 'train_shift', True)
    yaml['model']['train_scale'] = True
    assert inputs.read(yaml).host[KEY.TRAIN_SHIFT_SCALE] is True


def test_a_value_goes_where_it_means_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = Word('train.later', ours='checkpoint_every', moves=True)
    other = Word('train.other', ', in steps', ours='checkpoint_every')
    absent = Word('train.absent', ours='no_such_field', moves=True)
    monkeypatch.setattr(later_host, 'WORDS', (moved, other, absent))
    assert inputs.read(with_word('train', 'later', 7)).train.checkpoint_every == 7
    both = with_word('train', 'later', 7)
    both['train']['fidelity'] = {'checkpoint_every': 3}
    with pytest.raises(UserError, match='are the same. Remove one of the two'):
        inputs.read(both)
    with pytest.raises(UserError, match=r'Use train\.fidelity\.\w+, in steps\.$'):
        inputs.read(with_word('train', 'other', 7))
    with pytest.raises(UserError, match='there is nothing like it here'):
        inputs.read(with_word('train', 'absent', 7))


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('grad_clip', 0, r'^train\.grad_clip: must be greater than 0, got 0'),
        ('grad_clip', 'all', r"^train\.grad_clip: must be a number, got 'all'"),
        ('energy_loss_weight', True, r'^train\.energy_loss_weight: .* got True'),
    ],
)
def test_what_is_not_off_is_not_ignored(key: str, value: Any, said: str) -> None:
    """In Python 0 is False, and True is 1."""
    with pytest.raises(UserError, match=said):
        inputs.read(with_word('train', key, value))


def test_words_of_the_host_stay_the_hosts() -> None:
    """None of the table is what SevenNet 0.13 means with the same key."""
    every = {
        'model': const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
        'train': const.DEFAULT_TRAINING_CONFIG,
        'data': const.DEFAULT_DATA_CONFIG,
    }
    assert later_host.understood(every) == every
    later_host.refuse(every)


@pytest.mark.parametrize(('section', 'key', 'value', 'said'), DOING)
def test_without_a_fidelity_the_host_would_ignore_it(
    section: str, key: str, value: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = {'model': {}, 'train': {}, 'data': {}, section: {key: value}}
    with pytest.raises(UserError, match='The installed one would ignore it'):
        inputs.refuse_ignored(yaml)
    monkeypatch.setattr(KEY, later_host.MARK, 'train_by_batch', raising=False)
    inputs.refuse_ignored(yaml)  # which that version understands


def test_our_schedule_needs_a_fidelity() -> None:
    plain: dict[str, Any] = {'train': {'scheduler': 'OneCycleLR'}}
    words = r'onecyclelr needs a `fidelity` block.*linearlr'
    with pytest.raises(UserError, match=words):
        later_host.refuse(plain)
