"""`sevennet-mf extend`: a checkpoint with an added fidelity, without training."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from argparse import Namespace
from datetime import datetime
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from sevennet_mf import keys
from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.checkpoint.origin import open_origin
from sevennet_mf.config import compatible, inherit
from sevennet_mf.config.blocks import (
    DataFidelity,
    ModelFidelity,
    TrainFidelity,
    validate,
)
from sevennet_mf.config.option_words import said_in_options
from sevennet_mf.data.dataset import FidelityDataset
from sevennet_mf.data.processed.build import load_or_build
from sevennet_mf.data.reading.labels import LABEL_KEYS
from sevennet_mf.data.references import IN_COMPOUNDS, References, as_text
from sevennet_mf.errors import UserError, said_as
from sevennet_mf.evaluate.entries import checked
from sevennet_mf.model.extend import (
    ExtensionPlan,
    extend,
    extended_config,
    set_references,
)
from sevennet_mf.model.load import LoadedModel, model_of
from sevennet_mf.model.plain_config import builtin, statistics
from sevennet_mf.train.continuing.residual import fit_residual
from sevennet_mf.train.loop.provenance import versions

# options for the YAML keys that errors name
OPTIONS = {
    compatible.KNOWN_AS: '--known_as',
    compatible.START_FROM: '--start_from',
    'model.fidelity.encoding': '--encoding',
    'model.fidelity.rank': '--rank',
    'model.fidelity.sites': '--sites',
    'extend.known_as': '--known_as',
    'extend.start_from': '--start_from',
    'extend.target': '--fidelity',
}

NO_LABELS = dict.fromkeys(LABEL_KEYS)
# options that are keys of an entry
ENTRY = ('energy_key', 'format', 'energy_unit', 'length_unit', 'index', 'on_bad')


def extend_file(
    name: str,
    added: str,
    output: str,
    *,
    files: list[str] | None = None,
    known_as: str | None = None,
    start_from: str | None = None,
    model: dict[str, Any] | None = None,
    labels: dict[str, Any] | None = None,
    device: str = 'cpu',
) -> References | None:
    """Write a checkpoint that has the fidelity `added` as well.

    Old fidelities predict what they did, the new one what start_from does, apart
    from its reference energies.

    Args:
        name: of the checkpoint: a path or a pretrained name.
        files: labels of `added`; its reference energies are fitted to them minus the
            checkpoint's own predictions. Without files they are those of start_from.
        known_as: what to call the only fidelity of the checkpoint.
        model: keys of `model.fidelity`.
        labels: keys of the entry of the files: energy_key, energy_unit, ...

    Returns:
        The reference energies, if they were fitted.

    Raises:
        UserError: Something cannot be used; nothing was written.
    """
    with said_as(OPTIONS):
        plan, loaded = _planned(name, added, known_as, start_from, model or {})
        config = extended_config(loaded.config, plan)
    state = extend(loaded.model, plan)
    index = len(plan.old)
    references = None
    if files:
        # only energies are read
        given = {'file': files, 'fidelity': added, **NO_LABELS, **(labels or {})}
        entry = checked(given, 'entry 1 of the data')
        references = _references(loaded, entry, plan, device)
        energies = references.energies[0]
        set_references(state, loaded.type_map, index, energies)
    config.update(statistics(config, state))
    config[keys.PROVENANCE] = _provenance(loaded, plan, references)
    content = {
        'config': builtin(config),
        'epoch': 0,
        'model_state_dict': {k: v.cpu() for k, v in state.items()},
        'optimizer_state_dict': {},
        'scheduler_state_dict': {},
        'time': datetime.now().strftime('%Y-%m-%d %H:%M'),
        'hash': uuid.uuid4().hex,
    }
    checkpoint_file.save(output, content)
    return references


def _planned(
    name: str,
    added: str,
    known_as: str | None,
    start_from: str | None,
    model: dict[str, Any],
) -> tuple[ExtensionPlan, LoadedModel]:
    given = {'known_as': known_as, 'start_from': start_from, 'target': added}
    train = validate(
        TrainFidelity, {k: v for k, v in given.items() if v is not None}, 'extend'
    )
    found = inherit.as_called(open_origin(name), train)
    if not found.names:
        raise UserError(
            f'--known_as is missing: {name} has one fidelity, without a name. '
            'Name its level of theory, for example --known_as pbe.'
        )
    if added in found.names:
        raise UserError(
            f'--fidelity: {added!r} already exists in {name}, which has '
            f'{list(found.names)}. Choose another name.'
        )
    data = validate(DataFidelity, {}, 'extend')
    data.order = inherit.order_of(found, train, data, [added])
    inherit.check_old(found, train, data)
    block = inherit.fill_fidelity(
        validate(ModelFidelity, model, 'model.fidelity'), found
    )
    source = train.start_from or data.base
    assert source is not None
    plan = ExtensionPlan(found.names, (added,), source, block.model_dump())
    return plan, model_of(found.path, found.content)


def _references(
    loaded: LoadedModel, entry: dict[str, Any], plan: ExtensionPlan, device: str
) -> References:
    (added,) = plan.added
    source = loaded.fidelities[plan.old.index(plan.source)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        part = load_or_build(entry, None, [added], loaded.cutoff, Path(folder))
        dataset = FidelityDataset([part], [added])
        present = dataset.elements()
        references = fit_residual(
            loaded,
            dataset,
            added,
            source,
            [chemical_symbols[z] for z in present],
            device=device,
            progress=True,
        )
        del part, dataset  # they hold files of the folder that goes now
    return references


def _provenance(
    loaded: LoadedModel, plan: ExtensionPlan, references: References | None
) -> dict[str, Any]:
    # of a training, which this is not
    left_out = (keys.FOLDED, 'best', 'drift')
    known = {k: v for k, v in loaded.provenance.items() if k not in left_out}
    names = dict(zip(loaded.fidelities, plan.old, strict=True))

    def renamed(block: dict[str, Any] | None) -> dict[str, Any]:
        return {names.get(key, key): value for key, value in (block or {}).items()}

    report = renamed(known.get('reference_energies'))
    if references is not None:
        report.update(references.as_dict())
    return {
        **known,
        'fidelities': list(plan.names),
        'order': list(plan.names),
        'base': plan.source,
        'target': plan.added[0],
        'about': renamed(known.get('about')),
        'data': {
            name: renamed(block) for name, block in (known.get('data') or {}).items()
        },
        'reference_energies': report,
        'extended': {'from': os.path.basename(loaded.path), 'start': plan.source},
        'versions': versions(),
    }


def run(args: Namespace) -> str:
    """Run `sevennet-mf extend`; return what to tell the user."""
    stem = os.path.splitext(os.path.basename(args.checkpoint))[0]
    output = args.output or f'{stem}_{args.fidelity}.pth'
    given = {'encoding': args.encoding, 'rank': args.rank, 'sites': args.sites}
    labels = {name: getattr(args, name) for name in ENTRY}
    with said_in_options(ENTRY):
        references = extend_file(
            args.checkpoint,
            args.fidelity,
            output,
            files=args.files,
            known_as=args.known_as,
            start_from=args.start_from,
            model={k: v for k, v in given.items() if v is not None},
            labels={k: v for k, v in labels.items() if v is not None},
            device=args.device,
        )
    lines = [f'{output}: {args.checkpoint} with the fidelity {args.fidelity}']
    if references is None:
        warnings.warn(
            f'{args.fidelity!r} has the reference energies of the fidelity it '
            'starts from, because there are no labels to fit others.',
            UserWarning,
            stacklevel=2,
        )
        return lines[0]
    values = references.as_dict()[args.fidelity]
    shown = {symbol: as_text(value) for symbol, value in values.items()}
    lines.append('Reference energies, eV')
    lines += [f'{symbol}: {text}' for symbol, text in shown.items()]
    if any(text.endswith('*') for text in shown.values()):
        lines.append(IN_COMPOUNDS)
    return '\n'.join(lines)
