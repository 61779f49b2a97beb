"""What a checkpoint is: architecture, fidelities, reference energies, origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import sevenn._keys as KEY
import torch
from ase.data import chemical_symbols
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sevennet_mf import keys
from sevennet_mf.train.load import LoadedModel, load_model, read_checkpoint
from sevennet_mf.train.predict import reference_energies

ROWS: Final[int] = 30  # elements in one column of the table of reference energies
SHOWN_HASH: Final[int] = 12  # digits of a hash in the table; info() has all


def info(path: str) -> dict[str, Any]:
    """Return what a checkpoint tells of itself, of plain builtins (JSON).

    path: of a checkpoint of this package or of SevenNet, or a pretrained name.
    Energies in eV, lengths in Å. What the file does not say is None or empty.
    'warnings' lists what is wrong with it. Raises UserError as load_model.
    """
    path, content = read_checkpoint(path)
    loaded = load_model(path)
    config, origin = loaded.config, loaded.provenance
    several = len(loaded.fidelities) > 1
    found = {
        'path': path,
        'sevenn': str(content['config']['version']),
        'when': _text(content.get('time') or config.get('when')),
        'epoch': content.get('epoch'),
        'hash': _text(content.get('hash')),
        'architecture': _architecture(loaded),
        'elements': [chemical_symbols[z] for z in sorted(loaded.type_map)],
        'fidelities': list(loaded.fidelities),
        **{key: origin.get(key) for key in ('order', 'base', 'target')},
        'about': dict(origin.get('about') or {}),
        **(_sites(config) if several else {'encoding': None, 'sites': []}),
        'reference_energies': _references(loaded),
        **{k: dict(origin.get(k) or {}) for k in ('data', 'files', 'versions')},
        'best': _best(content, config),
    }
    found['warnings'] = list(_problems(found, loaded))
    return found


def render(found: Mapping[str, Any]) -> RenderableType:
    """Return what `info` found for the terminal: tables, and warnings at the end."""
    parts: list[RenderableType] = [_summary(found)]
    if found['data']:
        parts.append(_data_table(found['data']))
    parts.append(_reference_table(found))
    if found['files']:
        parts.append(_file_table(found['files']))
    parts += [Text(f'Warning: {line}', style='bold') for line in found['warnings']]
    return Group(*parts)


# ---- what is there


def _text(value: Any) -> str | None:
    return None if value in (None, '', 'Not found') else str(value)


def _architecture(loaded: LoadedModel) -> dict[str, Any]:
    config = loaded.config
    return {
        'channel': config.get(KEY.NODE_FEATURE_MULTIPLICITY),
        'lmax': config.get(KEY.LMAX),
        'layers': config.get(KEY.NUM_CONVOLUTION),
        'cutoff': loaded.cutoff,
        'parity': bool(config.get(KEY.IS_PARITY)),
        'parameters': sum(p.numel() for p in loaded.model.parameters()),
        'linear_bias': bool(config.get(KEY.USE_BIAS_IN_LINEAR)),
    }


def _sites(config: Mapping[str, Any]) -> dict[str, Any]:
    """Encoding and sites; SevenNet's own modality is our `bias`."""
    ours = config.get(keys.FIDELITY_MODEL) or {}
    switched = [site for site, key in keys.SITE_SWITCH.items() if config.get(key)]
    encoding = ours.get('encoding', 'bias')
    own_scale = bool(config.get(KEY.USE_MODAL_WISE_SCALE))
    return {
        'encoding': encoding,
        'rank': ours.get('rank') if encoding == 'lora' else None,
        'sites': list(ours.get('sites') or switched),
        'scale': 'per_fidelity' if own_scale else 'shared',
    }


def _references(loaded: LoadedModel) -> dict[str, dict[str, dict[str, Any]]]:
    """{fidelity: {symbol: energy, std, determined}}; None: the file does not say."""
    energies = reference_energies(loaded.model)
    origin = loaded.provenance.get('reference_energies') or {}
    report: dict[str, dict[str, dict[str, Any]]] = {}
    for row, name in enumerate(loaded.fidelities):
        report[name] = {}
        for z in sorted(loaded.type_map):
            known = (origin.get(name) or {}).get(chemical_symbols[z]) or {}
            report[name][chemical_symbols[z]] = {
                'energy': float(energies[row, z]),
                'std': known.get('std'),
                'determined': known.get('determined'),
            }
    return report


def _best(
    content: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Metric that picked the best checkpoint, and its value where it is kept."""
    metric = config.get(KEY.BEST_METRIC)
    if not metric:
        return None
    kept = (config.get(keys.PROVENANCE) or {}).get('best') or {}
    state = (content.get(keys.TRAINING_STATE) or {}).get('state') or {}
    value = kept.get('value', state.get('best'))
    return {
        'metric': str(metric),
        'value': float(value) if value is not None and np.isfinite(value) else None,
        'epoch': kept.get('epoch', state.get('best_epoch')),
    }


def _problems(found: Mapping[str, Any], loaded: LoadedModel) -> Iterator[str]:
    """What a user should know before he trusts the model."""
    weights = loaded.model.named_parameters()
    bad = [name for name, p in weights if not torch.isfinite(p).all()]
    if bad:
        yield f'weights are NaN or infinite, first {bad[0]}: the model is of no use.'
    references = found['reference_energies']
    for symbol in found['elements']:
        by_fidelity = {f: e[symbol]['energy'] for f, e in references.items()}
        zero = [f for f, energy in by_fidelity.items() if energy == 0.0]
        rest = {f: energy for f, energy in by_fidelity.items() if energy != 0.0}
        if zero and rest:
            others = ', '.join(f'{e:.2f} eV at {f}' for f, e in rest.items())
            yield (
                f'{symbol}: its reference energy is 0 at {", ".join(zero)} but '
                f'{others}. No label of {" and ".join(zero)} held {symbol}; '
                'energies of structures with it are off by eV there.'
            )
    for fidelity, elements in references.items():
        open_ones = [s for s, e in elements.items() if e['determined'] is False]
        if open_ones:
            yield (
                f'{fidelity}: not determined for {", ".join(open_ones)}; no label '
                'of this fidelity holds them, and energies of such structures may '
                'be off by eV.'
            )
    trained = found['data'].get('trainset')
    for fidelity in found['fidelities'] if trained else []:
        if fidelity not in trained:
            yield f'{fidelity} had no training structure.'
    if found['architecture']['linear_bias']:
        yield (
            'its linear layers have biases, which SevenNet drops without a word '
            'when it converts to cuEquivariance, FlashTP or OpenEquivariance.'
        )


# ---- how it is shown


def _summary(found: Mapping[str, Any]) -> Table:
    table = Table(title=found['path'], show_header=False, title_justify='left')
    table.add_column(style='bold')
    table.add_column(overflow='fold')
    for name, value in _lines(found):
        if value not in (None, '', []):
            table.add_row(name, str(value))
    return table


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    a = found['architecture']
    yield 'sevenn', found['sevenn']
    yield 'when', found['when']
    yield 'epoch', found['epoch']
    yield 'hash', found['hash']
    yield (
        'architecture',
        f'{a["channel"]} channels, lmax {a["lmax"]}, {a["layers"]} layers, cutoff '
        f'{a["cutoff"]:g} Å, {"O(3)" if a["parity"] else "SO(3)"}, '
        f'{a["parameters"]} parameters',
    )
    elements = found['elements']
    shown = f'{len(elements)}: {" ".join(elements)}'
    yield 'elements', shown
    yield 'fidelities', ', '.join(found['fidelities'])
    for name in ('order', 'base', 'target'):
        value = found[name]
        yield name, ' < '.join(value) if isinstance(value, list) else value
    if found['encoding']:
        rank = f' of rank {found["rank"]}' if found['rank'] else ''
        yield 'encoding', f'{found["encoding"]}{rank}, scale {found["scale"]}'
        yield 'sites', ', '.join(found['sites'])
    for fidelity, notes in found['about'].items():
        yield f'about {fidelity}', ', '.join(f'{k}: {v}' for k, v in notes.items())
    best = found['best'] or {}
    if best.get('value') is not None:
        yield 'best', f'{best["metric"]} {best["value"]:g} (epoch {best["epoch"]})'
    else:
        yield 'best metric', best.get('metric')
    yield 'versions', ', '.join(f'{k} {v}' for k, v in found['versions'].items())


def _data_table(data: Mapping[str, Any]) -> Table:
    columns = list(
        dict.fromkeys(k for own in data.values() for n in own.values() for k in n)
    )
    table = Table(title='Data', title_justify='left')
    for name in ('set', 'fidelity'):
        table.add_column(name)
    for name in columns:
        table.add_column(name, justify='right')
    for set_name, own in data.items():
        for fidelity, numbers in own.items():
            cells = [str(numbers.get(name, '–')) for name in columns]
            table.add_row(set_name, fidelity, *cells)
    return table


def _reference_table(found: Mapping[str, Any]) -> Table:
    references = found['reference_energies']
    elements = found['elements']
    blocks = [elements[i : i + ROWS] for i in range(0, len(elements), ROWS)]
    table = Table(title='Reference energies (eV)', title_justify='left')
    for _ in blocks:
        table.add_column('', style='bold')
        for fidelity in references:
            table.add_column(fidelity, justify='right')
    for row in range(len(blocks[0]) if blocks else 0):
        cells = []
        for block in blocks:
            symbol = block[row] if row < len(block) else None
            cells.append(symbol or '')
            for own in references.values():
                cells.append(_energy_cell(own[symbol]) if symbol else '')
        table.add_row(*cells)
    return table


def _energy_cell(entry: Mapping[str, Any]) -> str:
    text = f'{entry["energy"]:.3f}'
    if entry['determined'] is False:
        return f'{text} not determined'
    return f'{text} ± {entry["std"]:.2g}' if entry['std'] is not None else text


def _file_table(files: Mapping[str, str]) -> Table:
    table = Table(title='Files', title_justify='left')
    table.add_column('file', overflow='fold')
    table.add_column('sha256')
    for name, digest in files.items():
        table.add_row(name, digest[:SHOWN_HASH])
    return table
