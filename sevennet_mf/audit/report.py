"""The audit for people and machines: tables for a terminal, JSON."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sevennet_mf import files
from sevennet_mf.data.references import IN_COMPOUNDS, as_text

if TYPE_CHECKING:
    from sevennet_mf.audit.summary import Audit, PairAudit, SetAudit, Statistics

NONE: Final[str] = '-'
MANY_ELEMENTS: Final[int] = 8  # for one cell
ROWS: Final[int] = 20  # of reference energies; the JSON has them all
MARK: Final[dict[str, tuple[str, str]]] = {
    'problem': ('problem', 'bold red'),
    'note': ('note', 'cyan'),  # nothing may be wrong: not the colour of a warning
}


def write_json(audit: Audit, path: str) -> None:
    """Write the audit as JSON.

    Raises:
        UserError: `path` cannot be written.
    """
    remedy = 'Name another with --json.'
    files.write_json(path, audit.as_dict(), remedy, finite=True)


def table(audit: Audit) -> Group:
    """Return the sets, their labels, pairs and findings, for rich to print."""
    parts: list[RenderableType] = []
    if audit.sets:
        parts += [_sets(audit), _labels(audit)]
    if audit.pairs:
        parts.append(_pairs(audit))
    if audit.references:
        parts.append(_references(audit))
    parts += _findings(audit)
    return Group(*parts)


def _table(title: str, caption: str | None = None) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,  # lines between columns would cost what 80 have
        title=title,
        caption=caption,
        title_justify='left',
        caption_justify='left',
        title_style='bold',
        header_style='bold',
    )


def _sets(audit: Audit) -> Table:
    result = _table('Structures', 'elements: structures containing each')
    for name in ('set', 'fidelity'):
        result.add_column(name, overflow='fold')
    labels = _labelled(audit)
    for name in ('structures', 'atoms', *labels.values()):
        result.add_column(name, justify='right', no_wrap=True)
    result.add_column('elements', overflow='fold')
    for part in audit.sets:
        result.add_row(
            part.set,
            _mark(audit, part.fidelity),
            str(part.structures),
            str(part.atoms),
            *(str(part.labels[k] or NONE) for k in labels),
            _held(part),
        )
    return result


def _labelled(audit: Audit) -> dict[str, str]:
    """The labels that any set has, and what a column of them is called."""
    titles = {'energy': 'energy', 'force': 'forces', 'stress': 'stress'}
    return {
        key: title
        for key, title in titles.items()
        if any(part.labels[key] for part in audit.sets)
    }


def _held(part: SetAudit) -> str:
    """'N 164, Ga 118', or of many elements the rarest."""
    counts = [(c['structures'], s) for s, c in part.elements.items()]
    if len(counts) <= MANY_ELEMENTS:
        return ', '.join(f'{s} {c}' for c, s in counts)
    rarest = ', '.join(f'{s} {c}' for c, s in sorted(counts)[:3])
    return f'{len(counts)} elements, rarest {rarest}'


def _mark(audit: Audit, fidelity: str) -> str:
    marks = (('base', audit.base), ('target', audit.target))
    known = [word for word, name in marks if name == fidelity]
    return f'{fidelity} ({", ".join(known)})' if known else fidelity


def _labels(audit: Audit) -> Table:
    result = _table(
        'Labels',
        _of_components(audit),
    )
    result.add_column('set\nfidelity', overflow='fold', min_width=8)
    for name in ('E range\neV/atom', 'E std\neV/atom'):
        result.add_column(name, justify='right', no_wrap=True)
    labels = _labelled(audit)
    heads = {'force': ('max |F|\neV/Å', 'F rms\neV/Å'), 'stress': ('stress\nkbar',)}
    for name in (n for key, names in heads.items() if key in labels for n in names):
        result.add_column(name, justify='right', no_wrap=True)
    for part in audit.sets:
        energy = part.energy
        result.add_row(
            f'{part.set}\n{part.fidelity}',
            f'{energy.min:.3f} to {energy.max:.3f}',
            f'{energy.std:.3f}',
            *_derived(part, labels),
        )
    return result


def _of_components(audit: Audit) -> str | None:
    words = {
        'stress': 'stress: components, positive under compression',
        'force': 'force RMS: over components',
    }
    labels = _labelled(audit)
    return '; '.join(text for k, text in words.items() if k in labels) or None


def _spread(spread: Statistics) -> list[str]:
    return [
        *(f'{v:.3f}' for v in (spread.min, spread.mean, spread.max)),
        f'{spread.std:.3f}',
    ]


def _derived(part: SetAudit, labels: Container[str]) -> list[str]:
    force, cells = part.force or {}, []
    if 'force' in labels:
        cells += [
            f'{force[k]:.2f}' if k in force else NONE for k in ('max', 'rms')
        ]
    if 'stress' in labels:
        limits = part.stress
        cells += [f'{limits["min"]:.0f} to {limits["max"]:.0f}' if limits else NONE]
    return cells


def _pairs(audit: Audit) -> Table:
    result = _table(
        'Same structure at two fidelities',
        'E: high - low; scatter: its std after subtracting reference energies',
    )
    result.add_column('low', overflow='fold')
    result.add_column('high', overflow='fold')
    result.add_column('pairs', justify='right', no_wrap=True)
    for name in ('min', 'mean', 'max', 'std'):
        result.add_column(f'E {name}\neV/atom', justify='right', no_wrap=True)
    result.add_column('scatter\nmeV/atom', justify='right', no_wrap=True)
    has_forces = any(pair.with_forces for pair in audit.pairs)
    if has_forces:
        result.add_column('F rms\neV/Å', justify='right', no_wrap=True)
    for pair in audit.pairs:
        cells = _pair(pair)
        result.add_row(*(cells if has_forces else cells[:-1]))
    return result


def _pair(pair: PairAudit) -> list[str]:
    return [
        pair.low,
        pair.high,
        str(pair.structures),
        *_spread(pair.energy),
        f'{1000 * pair.scatter:.1f}',
        NONE if pair.force_rms is None else f'{pair.force_rms:.3f}',
    ]


def _references(audit: Audit) -> Table:
    symbols = list(dict.fromkeys(s for e in audit.references.values() for s in e))
    # those that somebody must look at first
    order = sorted(symbols, key=lambda s: _known(audit, s))[:ROWS]
    shown = [s for s in symbols if s in order]
    hidden = len(symbols) - len(shown)
    more = f'; {hidden} more elements in the JSON' if hidden else ''
    result = _table(
        'Reference energies, eV',
        f'{IN_COMPOUNDS}{more}',
    )
    result.add_column('element', no_wrap=True)
    for name in audit.references:
        result.add_column(name, justify='right', overflow='fold')
    for symbol in shown:
        cells = [as_text(known[symbol]) for known in audit.references.values()]
        result.add_row(symbol, *cells)
    return result


def _known(audit: Audit, symbol: str) -> int:
    """At how many fidelities the reference energy of an element is determined."""
    return sum(e[symbol]['determined'] for e in audit.references.values())


def _findings(audit: Audit) -> list[RenderableType]:
    if not audit.problems:
        return [Text('No problems found.', style='bold green')]
    result = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    result.add_column(no_wrap=True)
    result.add_column(no_wrap=True)
    result.add_column(overflow='fold')
    for problem in audit.problems:
        word, style = MARK[problem.severity]
        # a path may hold brackets, which are markup to rich: Text is plain
        result.add_row(Text(word, style), Text(problem.kind), Text(problem.message))
    count = sum(p.severity == 'problem' for p in audit.problems)
    notes = len(audit.problems) - count
    summary = Text(
        f'{count or "No"} problem{"" if count == 1 else "s"}, '
        f'{notes or "no"} note{"" if notes == 1 else "s"}.',
        'bold red' if count else 'bold green',
    )
    return [result, summary]
