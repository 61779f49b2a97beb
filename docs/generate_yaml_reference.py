"""Write yaml_reference.md from the pydantic models of the package.

    python docs/generate_yaml_reference.py

A test fails if the page in the repository is not what this writes.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Lt
from pydantic.fields import FieldInfo

from sevennet_mf.config import blocks as config
from sevennet_mf.config import recipe
from sevennet_mf.config.validation import blocks_in
from sevennet_mf.study.plan import study_yaml as study

PAGE = Path(__file__).with_name('yaml_reference.md')
# the outermost blocks by their path; those within them follow from their fields
ROOTS: tuple[tuple[str, str, type[config.Block]], ...] = (
    ('model.fidelity', '`model.fidelity`', config.ModelFidelity),
    ('train.fidelity', '`train.fidelity`', config.TrainFidelity),
    ('data.fidelity', '`data.fidelity`', config.DataFidelity),
    (
        'data.load_trainset_path',
        'An entry of `data.load_trainset_path` and the like',
        config.DataEntry,
    ),
    ('study', '`study`, of a study.yaml', study.Study),
)
HEAD = f"""\
# YAML reference

<!-- written by docs/generate_yaml_reference.py from the models of the package -->

The keys that sevennet_mf adds to a SevenNet YAML. A key that is neither listed here
nor in SevenNet's own documentation is an error. You choose the names of fidelities:
letters, digits and `_ . + -`.
{', '.join(f'`{name}`' for name in config.RESERVED_NAMES)} are reserved. The keys of
a `study.yaml`, which is a separate file, are at the end: [](study.md).
"""
DEFAULTS = """\
## Keys of SevenNet's section `train`

In a YAML with a `fidelity`, these keys have other defaults than in SevenNet: the
recipe, which gave the best results ([](recipe.md), [](pretrained.md)). Whatever a
YAML says takes precedence. The log and `sevennet-mf info` list the keys that were
left out.

| key | from scratch | with `continue` |
|---|---|---|
"""
BESIDE = f"""
- With `update: fidelity_only` and `gain` or `lora`, `lr` is
  {recipe.OWN_WEIGHTS.rate}.
- With a `loss` other than `huber`, loss weights that are left out are SevenNet's.
  Without `lr`, `sgd` and `adagrad` use torch's default. A `scheduler` without
  parameters decreases the learning rate by the same factor over the same epochs;
  `reducelronplateau` uses torch's parameters.
- `scheduler_param` with a key such as `gamma`, but without `scheduler`, applies to
  SevenNet's default, `exponentiallr`.
- With `continue`, an optimiser or scheduler that is not reset continues as in the
  checkpoint, and with the optimiser its loss. `epoch` counts from the checkpoint's
  epoch, unless it is reset.
- `--resume` continues with the values of the original run.
"""
NONE = type(None)
WORDS: dict[Any, str] = {
    bool: '`true` or `false`',
    str: 'text',
    int: 'whole number',
    float: 'number',
    NONE: '`null`',
    config.Name: 'a fidelity',
    Any: 'any value',
}
PLURAL = {
    config.Name: 'list of fidelities',
    config.DataEntry: 'list of entries as above',
    str: 'list of texts',
}
# keys of a block, by their type
KEYS = {config.Name: 'fidelity', str: 'key'}


def words(kind: Any, constraints: Iterable[Any] = ()) -> str:
    """Say what a value of a type must be."""
    origin: Any = get_origin(kind)
    args = get_args(kind)
    if kind in WORDS:
        return WORDS[kind] + bound(constraints)
    if isinstance(kind, type) and issubclass(kind, config.Block):
        return 'block, below'
    if origin is Annotated:
        return words(args[0], args[1:])
    if origin is Literal:
        return ', '.join(f'`{value}`' for value in args)
    if origin is list:
        return PLURAL.get(args[0]) or f'list of {words(args[0])}'
    if origin is dict:
        return f'for each {KEYS[args[0]]}: {words(args[1])}'
    if origin in (Union, types.UnionType):
        # a word first: it is the default
        ordered = sorted(args, key=lambda own: get_origin(own) is not Literal)
        kept = (own for own in ordered if own is not int or float not in args)
        return ', or '.join(words(own) for own in kept)
    raise TypeError(f'no words for {kind}: add them to {__file__}')


def bound(constraints: Iterable[Any]) -> str:
    """Say what a number is limited by."""
    said = ''
    for constraint in constraints:
        if isinstance(constraint, FieldInfo):
            return bound(constraint.metadata)
        if isinstance(constraint, Gt):
            said += f' above {constraint.gt}'
        if isinstance(constraint, Ge):
            said += f', {constraint.ge} or above'
        if isinstance(constraint, Lt):
            said += f', below {constraint.lt}'
    return said


def value(field: FieldInfo) -> str:
    """Say what a key takes; `null` only where it means something of its own."""
    kind: Any = field.annotation
    if field.default is None and '`null`' not in (field.description or ''):
        rest = tuple(own for own in get_args(kind) if own is not NONE)
        kind = Union[rest]  # noqa: UP007 - of a tuple
    return words(kind, field.metadata)


def default(field: FieldInfo) -> str:
    """Say what holds if the key is left out."""
    if field.is_required():
        return 'required'
    given = field.get_default(call_default_factory=True)
    if given is None or given == {} or isinstance(given, config.Block):
        return ''  # the description says
    if isinstance(given, list):
        return f'`[{", ".join(map(str, given))}]`'
    if isinstance(given, bool):
        return f'`{str(given).lower()}`'
    return f'`{given}`'


def recipe_table() -> str:
    """Return the defaults of SevenNet's keys."""
    columns = []
    for own in (recipe.FROM_SCRATCH, recipe.CONTINUED):
        filled, _ = recipe.completed({}, recipe.StartingPoint(own))
        filled['scheduler_param']['total_iters'] = 'epoch'
        columns.append(filled)
    rows = [
        f'| `{name}` | {" | ".join(f"`{recipe.flow(c[name])}`" for c in columns)} |'
        for name in columns[0]
    ]
    steps = [str(r.least_steps) for r in (recipe.FROM_SCRATCH, recipe.CONTINUED)]
    cells = 'one pass over the data | the same'
    rows.append(f'| `fidelity.steps_per_epoch` | {cells} |')
    kinds = ('the data', 'the labels of added fidelities')
    cells = ' | '.join(
        f'one pass over {kind}, at least {n}'
        for n, kind in zip(steps, kinds, strict=True)
    )
    rows.append(f'| … without `epoch` | {cells} |')
    return DEFAULTS + '\n'.join(rows) + '\n' + BESIDE


def titled() -> Iterator[tuple[str, type[config.Block]]]:
    """Yield every block once, with its title: outer blocks before those in them."""
    seen = {block for *_, block in ROOTS}

    def within(path: str, block: type[config.Block]) -> Iterator[Any]:
        for name, field in block.model_fields.items():
            for inner in blocks_in(field.annotation):
                if inner in seen:
                    continue
                seen.add(inner)
                here = f'{path}.{name}'
                many = in_dict(field.annotation)
                yield f'An entry of `{here}`' if many else f'`{here}`', inner
                yield from within(here, inner)

    for path, title, block in ROOTS:
        yield title, block
        yield from within(path, block)


def in_dict(kind: Any) -> bool:
    """Whether a type holds its blocks by their names."""
    args = get_args(kind)
    if get_origin(kind) is dict:
        return bool(blocks_in(args[1]))
    return any(in_dict(own) for own in args)


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, recipe_table()]
    for title, block in titled():
        lines = [f'## {title}', '', '| key | value | default | meaning |']
        lines.append('|---|---|---|---|')
        for name, field in block.model_fields.items():
            cells = [f'`{name}`', value(field), default(field)]
            cells.append(' '.join((field.description or '').split()))
            lines.append(f'| {" | ".join(cells)} |')
        parts.append('\n'.join(lines) + '\n')
    return '\n'.join(parts)


if __name__ == '__main__':
    PAGE.write_text(page(), encoding='utf-8')
