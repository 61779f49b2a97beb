"""The labels of the target, for training, validation and testing."""

from __future__ import annotations

from dataclasses import dataclass

from sevennet_mf.data.checks import leak, two_validations
from sevennet_mf.data.findings import refuse
from sevennet_mf.data.reading.read import Structure, read_entry
from sevennet_mf.data.same.identity import Reader
from sevennet_mf.errors import UserError
from sevennet_mf.evaluate.entries import checked
from sevennet_mf.study.plan import split as splits
from sevennet_mf.study.plan.input_yaml import Base
from sevennet_mf.study.plan.label_set import LabelSet, chances, lowest
from sevennet_mf.study.plan.study_yaml import Study


@dataclass(frozen=True, eq=False)
class Parts:
    """The labels of the target.

    Attributes:
        pool: Labels available for training.
        valid: Labels for validation.
        test: Labels for testing.
        first: Rows of the pool that lead every order.
        given: Number of training labels before a test set was taken from them.
    """

    pool: LabelSet
    valid: LabelSet
    test: LabelSet
    first: list[int]
    given: int


def split_target(study: Study, base: Base, reader: Reader) -> Parts:
    """Return the labels of the target, divided as input_yaml and study.yaml say.

    Args:
        reader: The one that knows all structures of the study.

    Raises:
        UserError: For a split that is not possible, a test set that overlaps with
            training or validation data, or a missing validation set.
    """
    labels = LabelSet.of(base.structures(base.train, [base.target]), reader)
    valid = LabelSet.of(base.validation(base.target), reader)
    for finding in two_validations(base.valid, base.ratio):
        refuse(finding, 'study.input_yaml: ')
    if base.ratio:
        labels, valid = _divided(base, labels)
    given = len(labels)
    if study.split is not None:
        found = splits.apply(study.split, labels, valid)
        kept = valid.where(found.kept)
        parts = Parts(found.pool, kept, found.test, found.first, given)
    else:
        assert study.test is not None
        test = LabelSet.of(_test_structures(study, base), reader)
        for known, what in ((labels, 'training'), (valid, 'validation')):
            where = f'{base.target} in the test set'
            refuse(leak(test, known, where, what), 'study.test: ')
        parts = Parts(labels, valid, test, [], given)
    if study.checkpoint == 'best' and not len(parts.valid):
        lost = ' left after the split' if len(valid) else ''
        raise UserError(
            'study.input_yaml has no validation data of the target '
            f'{base.target!r}{lost} to select the best checkpoint. Add '
            'load_validset_path or data_divide_ratio, or write `checkpoint: last`.'
        )
    return parts


def _divided(base: Base, labels: LabelSet) -> tuple[LabelSet, LabelSet]:
    """Apply data_divide_ratio to the target's labels, once for all runs.

    All labels of a structure go to the same side: they have the same chance.
    """
    chosen = lowest(chances(labels, base.seed), base.ratio)
    if not chosen.any():
        raise UserError(
            f'study.input_yaml: data_divide_ratio: {base.ratio} selects none or all '
            f'of the {len(labels)} target labels; give load_validset_path.'
        )
    return labels.where(~chosen), labels.where(chosen)


def _test_structures(study: Study, base: Base) -> list[Structure]:
    """The structures of `study.test`, with labels of the target."""
    assert study.test is not None
    found = []
    for i, given in enumerate(study.test):
        where = f'study.test[{i}]'
        plain = given.model_dump(exclude_unset=True)
        fidelity = plain.setdefault('fidelity', base.target)
        if fidelity != base.target:
            raise UserError(
                f'{where}.fidelity must be the target {base.target!r}, got '
                f'{fidelity!r}. All methods are measured on the target.'
            )
        plain = checked(plain, where)
        found += list(read_entry(plain, None, [base.target], base.cutoff))
    return found
