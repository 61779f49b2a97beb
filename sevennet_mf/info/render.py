"""What `info` found, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sevennet_mf.config.recipe import as_text

ROWS: Final[int] = 30  # elements in one column of the table of reference energies
WIDTH: Final[int] = 100  # of a file or a pipe, in which a table has to fit
FRAME: Final[int] = 3  # what a column takes besides its text
# where our pair styles get the radial weights of a deployed file from
FAST_FORM: Final = {
    'table': 'fused in our pair styles, radial weights from a table',
    'network': 'fused in our pair styles',
    None: 'e3nn',
}
SHOWN_HASH: Final[int] = 12  # digits of a hash in the table; info() has all


def render(found: Mapping[str, Any]) -> RenderableType:
    """Return what `info` found as tables for the terminal, then the warnings."""
    parts: list[RenderableType] = [_summary(found)]
    if found['data']:
        parts.append(_data_table(found['data']))
    if found['reference_energies']:
        parts += _reference_tables(found)
    if found['files']:
        parts.append(_file_table(found['files']))
    parts += [Text(f'Warning: {line}', style='bold') for line in found['warnings']]
    return Group(*parts)


def _summary(found: Mapping[str, Any]) -> Table:
    table = Table(title=found['path'], show_header=False, title_justify='left')
    table.add_column(style='bold')
    table.add_column(overflow='fold')
    for name, value in (*_model(found), *_fidelities(found), *_origin(found)):
        if value not in (None, '', []):
            table.add_row(name, str(value))
    return table


def _model(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield 'kind', found['kind']
    for name in ('sevenn', 'when', 'epoch', 'hash'):
        yield name, found[name]
    a = found['architecture']
    cutoff = f'cutoff {a["cutoff"]:g} Å'
    if a['channel'] is None:
        yield 'architecture', cutoff
    else:
        yield (
            'architecture',
            f'{a["channel"]} channels, lmax {a["lmax"]}, {a["layers"]} layers, '
            f'{cutoff}, {"O(3)" if a["parity"] else "SO(3)"}, {a["parameters"]} '
            'parameters',
        )
    yield 'accelerator', found['accelerator']
    yield 'convolution on a CPU', found['convolution']
    deployed = found['deployed'] or {}
    yield 'pair style', deployed.get('pair_style')
    if deployed:
        yield 'convolution on a CPU', FAST_FORM[deployed.get('fast')]
    yield 'precision', deployed.get('dtype')
    if deployed.get('comm_size'):  # a serial file is not one of several
        yield 'segment', deployed.get('segment')
        yield 'segments', deployed.get('segments')
        yield 'numbers per ghost', deployed.get('comm_size')
    elements = found['elements']
    yield 'elements', f'{len(elements)}: {" ".join(elements)}'


def _fidelities(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
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


def _origin(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    folded = found['folded_from']
    while folded:
        digest = str(folded.get('sha256') or '')[:SHOWN_HASH]
        name, own = folded.get('fidelity'), folded.get('references')
        whose = f', reference energies of {own}' if own != name else ''
        encoding = f', {folded["encoding"]}' if folded.get('encoding') else ''
        yield (
            'folded from',
            f'{folded.get("file")} (sha256 {digest}) on {folded.get("date")}: '
            f'{name}{whose}{encoding}',
        )
        folded = folded.get('earlier')
    best = found['best'] or {}
    if best.get('value') is not None:
        yield 'best', f'{best["metric"]} {best["value"]:g} (epoch {best["epoch"]})'
    else:
        yield 'best metric', best.get('metric')
    yield 'weights', _average(found['ema'] or {})
    yield 'inferred labels', _inferred(found['inferred_labels'] or {})
    for who, values in found['defaults'].items():
        yield f'defaults by {who}', as_text(values)
    now, then = found['versions'], found['trained_with']
    yield 'versions', _listed(now)
    others = {name: then[name] for name in then if then[name] != now.get(name)}
    if others:  # most of them once
        rest = ', the others as above' if len(others) < len(then) else ''
        yield 'trained with', f'{_listed(others)}{rest}'


def _listed(versions: Mapping[str, str]) -> str:
    return ', '.join(f'{name} {version}' for name, version in versions.items())


def _average(said: Mapping[str, Any]) -> str | None:
    """What the weights are, if they are not those of the last step."""
    if not said:
        return None
    warmup = ' with warm-up' if said['warmup'] else ''
    return (
        f'exponential moving average, decay {said["decay"]:g}{warmup}, over '
        f'{said["steps"]} steps'
    )


def _inferred(said: Mapping[str, Any]) -> str | None:
    """Labels of the target that were not computed."""
    if not said.get('inferred'):
        return None
    energy = said['errors']['energy']
    off = '' if energy is None else f', error {1000 * energy:.1f} meV/atom'
    return (
        f'{said["inferred"]} of {said["target"]}, from {said["base"]} through '
        f'{said["paired"]} structures with both{off}'
    )


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


def _reference_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """One table, or several where the fidelities are too many for its width."""
    elements = found['elements']
    columns = {
        fidelity: [_energy_cell(own.get(symbol)) for symbol in elements]
        for fidelity, own in found['reference_energies'].items()
    }
    title = 'Reference energies (eV)'
    while columns:
        fitting: dict[str, list[str]] = {}
        width = len('Uu') + FRAME
        for name, cells in columns.items():
            own_width = max(map(len, [name, *cells])) + FRAME
            if fitting and width + own_width >= WIDTH:
                break
            fitting[name] = cells
            width += own_width
        columns = {k: v for k, v in columns.items() if k not in fitting}
        blocks = max(1, min(WIDTH // width, -(-len(elements) // ROWS)))
        yield _reference_table(title, elements, fitting, blocks)
        title = ''


def _reference_table(
    title: str, elements: Sequence[str], columns: dict[str, list[str]], blocks: int
) -> Table:
    """blocks: how many elements are in a row, beside each other."""
    rows = -(-len(elements) // blocks)
    table = Table(title=title or None, title_justify='left')
    for _ in range(blocks):
        table.add_column('', style='bold')
        for fidelity in columns:
            table.add_column(fidelity, justify='right')
    for row in range(rows):
        cells = []
        for i in range(row, rows * blocks, rows):
            is_there = i < len(elements)
            cells.append(elements[i] if is_there else '')
            cells += [own[i] if is_there else '' for own in columns.values()]
        table.add_row(*cells)
    return table


def _energy_cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ''
    if entry['energy'] is None:
        return 'not a number'
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
