"""study.yaml as pydantic models: what is compared, on which data, and how it runs.

The reference page in docs/ is generated from the descriptions in this file.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator

from sevennet_mf.config.blocks import Block, Count, DataEntry, not_bool

METHODS: Final[tuple[str, ...]] = (
    'high_only',
    'transfer',
    'delta',
    'multi_fidelity',
    'host_modality',
)
# the model of the other fidelities that transfer and delta start from
LOW: Final[str] = 'low'
TWO_STAGES: Final[tuple[str, ...]] = ('transfer', 'delta')


def _a_label_count(value: Any) -> Any:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not is_count and value != 'all':
        raise ValueError("must be a whole number of 1 or above, or 'all'")
    return value


LabelCount = Annotated[int | Literal['all'], BeforeValidator(_a_label_count)]
Share = Annotated[
    float, BeforeValidator(not_bool), Field(gt=0, lt=1, allow_inf_nan=False)
]
Seed = Annotated[int, BeforeValidator(not_bool), Field(ge=0)]
Words = Annotated[list[str], Field(min_length=1)]


class Split(Block):
    """`study.split`: a test set taken from the labels of the target."""

    by: Literal['random', 'composition', 'element'] = Field(
        description='`random`: any structures; `composition`: all structures of '
        'some reduced formulas; `element`: all that contain an element.'
    )
    test: Share | None = Field(
        None,
        description='The share that is tested: of the structures (`random`), or of '
        'the formulas (`composition`).',
    )
    seed: Seed = Field(0, description='Which structures or formulas that share is.')
    train: Words | None = Field(
        None,
        description='`composition`: the reduced formulas to train on, as `GaN`; all '
        'others are tested.',
    )
    element: Words | None = Field(
        None, description='`element`: the elements whose structures are tested.'
    )
    anchors: Annotated[int, BeforeValidator(not_bool), Field(ge=0)] = Field(
        1,
        description='`element`: how many structures of each held-out element stay '
        'in training, first of all labels. Without one, its reference energy is not '
        'determined.',
    )


class Variant(Block):
    """An entry of `study.variants`: a method with another YAML."""

    method: str = Field(description='One of the methods.')
    set: dict[str, Any] = Field(
        default_factory=dict,
        description='Changes to input_yaml, block by block; `null` takes a key out.',
    )


class RunOptions(Block):
    """`study.run`: where and how many at a time."""

    parallel: Count | Literal['auto'] = Field(
        'auto',
        description='Runs side by side. `auto`: one for each GPU, else as many as '
        'the cores allow.',
    )
    threads: Count = Field(1, description='Cores of each run.')
    slurm: dict[str, Any] | None = Field(
        None,
        description='Run on a cluster instead, through submitit (extra `slurm`), '
        'with its names: `partition`, `timeout_min`, `gpus_per_node`, ...',
    )


class Study(Block):
    """`study`: the whole of study.yaml."""

    input_yaml: str = Field(
        description='A multi-fidelity training YAML. Model, training, data and '
        'target are taken from it; paths in it count from its own folder.'
    )
    methods: Words = Field(
        list(METHODS),
        description=f'Any of {", ".join(f"`{name}`" for name in METHODS)}.',
    )
    labels: Annotated[list[LabelCount], Field(min_length=1)] = Field(
        ['all'],
        description='How many structures of the target are trained on, as a list; '
        '`all` is all there are. The smaller sets are in the larger ones.',
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        [1, 2, 3],
        description='Seeds of the first weights, the batches, and the choice of '
        'labels.',
    )
    steps: Count | None = Field(
        None,
        description='Optimiser steps of every run. Default: what input_yaml says.',
    )
    low_share: Share = Field(
        0.5,
        description='`transfer` and `delta`: the share of the steps that trains '
        'the model of the other fidelities.',
    )
    test: list[DataEntry] | None = Field(
        None,
        description='The test set: entries as in `load_validset_path`, of the '
        'target.',
    )
    split: Split | None = Field(
        None, description='Or a test set taken from the training data of the target.'
    )
    checkpoint: Literal['best', 'last'] = Field(
        'best', description='Which checkpoint is measured and built on.'
    )
    variants: dict[str, Variant] = Field(
        default_factory=dict,
        description='Further rows of the comparison by name: `{method: ..., set: '
        '{...}}`.',
    )
    run: RunOptions = Field(
        RunOptions(parallel='auto', threads=1, slurm=None),
        description='Where the runs are done. It may change from call to call.',
    )

    @field_validator('labels', 'seeds')
    @classmethod
    def _each_once(cls, values: list[Any]) -> list[Any]:
        return list(dict.fromkeys(values))
