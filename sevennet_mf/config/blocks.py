"""The `fidelity` blocks of the YAML as pydantic models.

The reference page in docs/ is generated from the descriptions here and in entry.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sevennet_mf.config.entry import DataEntry, Files
from sevennet_mf.config.training import (
    EarlyStopping,
    LabelLosses,
    MovingAverage,
    Tracker,
)
from sevennet_mf.config.validation import (
    NAME_PATTERN,
    RESERVED_NAMES,
    Block,
    Count,
    Energy,
    Name,
    NonNegative,
    Positive,
    Share,
    as_list,
    not_bool,
    validate,
)

__all__ = ['NAME_PATTERN', 'RESERVED_NAMES', 'Block', 'Count', 'Name', 'not_bool']
__all__ += ['DataEntry', 'validate']  # blocks are read with it

Site = Literal[
    'self_interaction_1', 'self_interaction_2', 'output', 'node_embedding'
]


class ModelFidelity(Block):
    """`model.fidelity`: how weights depend on the fidelity."""

    encoding: Literal['bias', 'gain', 'lora'] = Field(
        'bias',
        description='Form of the fidelity-owned weights. `bias`: y = W x + b_f (as '
        'in the paper; files are plain SevenNet multi-modal checkpoints). `gain`: '
        'y = (1 + g_f) (W x) + b_f. `lora`: y = (W + A_f B_f) x + b_f.',
    )
    rank: Count = Field(
        4, description='Rank r of A_f B_f within each irrep; used by `lora` only.'
    )
    sites: Annotated[list[Site], BeforeValidator(as_list)] = Field(
        ['self_interaction_1', 'self_interaction_2', 'output'],
        min_length=1,
        description='Linear layers that get fidelity-owned weights: those before '
        'and after each convolution, the first layer of the readout, and the '
        'embedding of the atom types.',
    )
    scale: Literal['shared', 'per_fidelity'] = Field(
        'shared',
        description='One energy scale shared by all fidelities, or one per '
        'fidelity. The atomic energy shift is always per fidelity.',
    )

    @field_validator('sites')
    @classmethod
    def _each_once(cls, sites: list[str]) -> list[str]:
        return list(dict.fromkeys(sites))


class ComponentWeight(Block):
    """Loss weights of one fidelity, by label."""

    energy: Positive = Field(1.0, description='Weight of the energies.')
    force: Positive = Field(1.0, description='Weight of the forces.')
    stress: Positive = Field(1.0, description='Weight of the stresses.')


class Dynamics(Block):
    """Copies drawn from a molecular dynamics run."""

    temperature: Positive = Field(description='Temperature (K).')
    steps: Count = Field(
        50, description='Number of 1 fs steps between two structures that are kept.'
    )


class SelfLabel(Block):
    """Structures that the pretrained model labels itself."""

    structures: Files | None = Field(
        None,
        description='Files with structures; labels in them are not read. Default: '
        'those of the trained fidelities in `load_trainset_path`.',
    )
    per_structure: Annotated[int, BeforeValidator(not_bool), Field(ge=0)] = Field(
        20,
        description='Number of modified copies of each structure, in addition '
        'to the structure itself.',
    )
    rattle: NonNegative = Field(
        0.05,
        description='Standard deviation of the random displacement of each '
        'coordinate (Å).',
    )
    strain: Annotated[NonNegative, Field(lt=0.5)] = Field(
        0.03,
        description='Largest component of the random symmetric strain; structures '
        'without a cell are not strained.',
    )
    md: Dynamics | None = Field(
        None,
        description='Draw the copies from Langevin dynamics with the pretrained '
        'model instead; `rattle` and `strain` then determine where it starts.',
    )


class MaxDrift(Block):
    """How much worse an old fidelity may become, on the held-out part."""

    energy: Positive | None = Field(
        None, description='Growth of the mean absolute error, meV/atom.'
    )
    force: Positive | None = Field(
        None, description='Growth of the mean absolute error, meV/Å.'
    )


class Replay(DataEntry):
    """Data of the old fidelities: an entry of a training set, or self labels."""

    file: Files | None = Field(  # type: ignore[assignment]
        None,
        description='Files with labelled structures, as in `load_trainset_path`.',
    )
    fidelity: Name | None = Field(
        None,
        description='The old fidelity to which they belong. Default: `start_from` '
        'for a file, all old fidelities for self labels.',
    )
    self_label: SelfLabel | None = Field(
        None,
        description='Used instead of a file: structures that the checkpoint labels.',
    )
    held_out: Share = Field(
        0.1,
        description='Share that is never trained on; the drift is measured on it.',
    )

    @model_validator(mode='after')
    def _one_of_both(self) -> Replay:
        if (self.file is None) == (self.self_label is None):
            raise ValueError('needs either `file` or `self_label`')
        return self

    @property
    def entry(self) -> dict[str, Any]:
        """The keys of an entry that were given."""
        own = set(DataEntry.model_fields)
        return self.model_dump(exclude_unset=True, include=own)


class TrainFidelity(Block):
    """`train.fidelity`: what the fidelities count for in training."""

    target: Name | None = Field(
        None,
        description='The fidelity that you want the potential for: its metric '
        'selects the best checkpoint and drives the scheduler. Default: the last '
        'of `order`.',
    )
    loss_weight: (
        dict[Name, Positive | ComponentWeight] | Literal['balanced']
    ) = Field(
        default_factory=dict,
        description='Weight of each fidelity in the loss: one number, or one each '
        'for `energy`, `force` and `stress`. Fidelities that are left out have '
        'weight 1. `balanced`: every fidelity has the same total weight, however '
        'many structures it has.',
    )
    sampling: dict[Name, Positive] | Literal['proportional', 'balanced'] = Field(
        'proportional',
        description='How batches are drawn. `proportional`: each structure once '
        'per epoch. `balanced`: equal shares of each fidelity; the default beside '
        'a `replay` without `loss_weight`. Or shares, as in `{pbe: 3, r2scan: 1}`.',
    )
    steps_per_epoch: Count | None = Field(
        None,
        description='Optimiser steps per epoch, however many structures there are. '
        'Useful to compare runs on different data, or for few structures that need '
        'no validation after each pass. Default: the number of steps that process '
        'as many structures as there are computed labels.',
    )
    batch_edges: Count | None = Field(
        None,
        description='Batches by work instead of `data.batch_size`: each takes as '
        'many structures as have at most this many edges (pairs of neighbours, '
        'both directions) together, for each process. A structure with more is a '
        'batch of its own.',
    )
    regularization: NonNegative = Field(
        1.0e-6,
        description='L2 penalty on the effective fidelity-owned weights only '
        '(lambda_R).',
    )
    known_as: Name | None = Field(
        None,
        description='With `continue` from a checkpoint with one fidelity: the name '
        'of that fidelity from now on. Names in the data that the checkpoint does '
        'not have are added to it.',
    )
    start_from: Name | None = Field(
        None,
        description='The fidelity of the checkpoint from which added fidelities '
        'start. Default: the base.',
    )
    update: Literal['all', 'fidelity_only'] = Field(
        'all',
        description='Which weights are trained: `all`, or only those that the '
        'added fidelities own (if none is added: those of the target). '
        '`fidelity_only` leaves all other weights exactly as they were.',
    )
    replay: Replay | None = Field(
        None,
        description="Data of the checkpoint's fidelities that are trained on as "
        'well, so that it does not forget them: a file, or labels from the '
        'checkpoint itself.',
    )
    max_drift: MaxDrift | None = Field(
        None,
        description='Limit on how much worse an old fidelity may become in the '
        'best checkpoint, measured on the held-out part of the replay.',
    )
    checkpoint_every: Count = Field(
        500,
        description='Optimiser steps between resumable checkpoints, and so the '
        'most that a `kill -9` can lose.',
    )
    loss: LabelLosses | None = Field(
        None,
        description='A loss of its own for each label, as in `{force: l2mae}`. '
        'Default: `train.loss` for all.',
    )
    energy_loss_weight: Positive | None = Field(
        None,
        description='Weight of the energies in the loss, beside '
        '`train.force_loss_weight` and `train.stress_loss_weight`. Default: 1.',
    )
    grad_clip: Positive | None = Field(
        None,
        description='Largest norm of the gradient, over all weights; a larger '
        'gradient is scaled down to it. Default: no limit.',
    )
    schedule_by: Literal['epoch', 'step'] | None = Field(
        None,
        description='What `train.scheduler` counts. With `step`, its parameters '
        'are in steps, and those left out follow from the length of the run. '
        'Default: `epoch`; `step` for `onecyclelr`.',
    )
    ema: MovingAverage | None = Field(
        None,
        description='Evaluate and save an exponential moving average of the '
        'weights. `{}` takes the defaults. Default: no average.',
    )
    early_stopping: EarlyStopping | None = Field(
        None,
        description='End the run when it no longer improves. Default: all epochs.',
    )
    report_to: Annotated[list[Tracker], BeforeValidator(as_list)] = Field(
        [],
        description='Where the numbers in `lc.csv` go as well: TensorBoard, '
        'Weights & Biases.',
    )


class DataFidelity(Block):
    """`data.fidelity`: the fidelities and their reference energies."""

    order: Annotated[list[Name] | None, BeforeValidator(as_list)] = Field(
        None,
        min_length=1,
        description='The fidelities from low to high. Default: the order in which '
        '`load_trainset_path` names them. Required with `key`.',
    )
    base: Name | None = Field(
        None,
        description='The fidelity whose reference energies the others are fitted '
        'against. Default: the first of `order`.',
    )
    reference_energies: (
        Literal['aligned', 'independent'] | dict[Name, dict[str, Energy]]
    ) = Field(
        'aligned',
        description='Energy of each element at each fidelity, subtracted before '
        'training. `aligned`: fitted to the differences from the base. '
        '`independent`: fitted to each fidelity alone. Or values in eV for some '
        'elements, as in `{r2scan: {In: -3.1}}`; the others are aligned.',
    )
    inferred_labels: Literal['auto', 'always', 'never'] = Field(
        'auto',
        description='Infer labels of the target for structures of lower '
        'fidelities: their own label plus a two-body difference fitted to paired '
        'structures, starting from the nearest fidelity. `auto`: only from '
        'fidelities whose paired structures, when left out of the fit, are '
        'predicted well enough.',
    )
    key: str | None = Field(
        None,
        description="Read each structure's fidelity from this key of its "
        '`atoms.info`, or of the `key_value_pairs` of an ASE database.',
    )
    cache: bool = Field(
        True,
        description='Keep the graphs on disk. `false` keeps only what they are made '
        'of, which needs far less space, and finds the neighbours again whenever a '
        'structure is used. The results are the same.',
    )
    about: dict[Name, dict[str, str | int | float | bool | None]] = Field(
        default_factory=dict,
        description='Free notes on each level of theory (functional, '
        'pseudopotentials, dispersion), kept in every checkpoint.',
    )

    @field_validator('order')
    @classmethod
    def _no_repeats(cls, order: list[str] | None) -> list[str] | None:
        if order and len(set(order)) < len(order):
            raise ValueError('names must differ')
        return order
