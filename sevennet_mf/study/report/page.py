"""report.html: what a study compared and what it found, on one page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table as Terminal

from sevennet_mf.files import make_folder, write_text
from sevennet_mf.study.report import figures, run_results, words
from sevennet_mf.study.report.comparison import CURVES, METRIC, Comparison, typical
from sevennet_mf.study.report.headline import headline
from sevennet_mf.study.report.labels_saved import REFERENCE
from sevennet_mf.study.report.run_results import (
    UNITS,
    RunResult,
    labels_of,
    most_seeds,
)

TYPES: Final[dict[str, str]] = {'.svg': 'image/svg+xml', '.png': 'image/png'}
PARITY: Final[str] = 'parity '  # and the row: a picture's name in the template


def write(out: str) -> str:
    """Write results.csv, figures/ and report.html of a study.

    An unfinished study is reported as far as it is. The page contains its pictures
    and needs no other files.

    Args:
        out: Folder of the study.

    Returns:
        Path of report.html.

    Raises:
        UserError: If `out` is not the folder of a study, or cannot be written.
    """
    found = Comparison.of(out)
    run_results.write(found.runs, str(found.out / 'results.csv'))
    drawn = _draw(found)
    pictures = {name: _uri(path) for name, path in drawn.items()}
    template = _environment().get_template('report.html.jinja')
    html = template.render(
        content(found),
        pictures=pictures,
        has_parity=any(name.startswith(PARITY) for name in pictures),
    )
    path = str(found.out / 'report.html')
    write_text(path, html)
    return path


def table(out: str) -> Terminal:
    """Return the errors of a study as a table for the terminal.

    Raises:
        UserError: If `out` is not the folder of a study.
    """
    found = Comparison.of(out)
    shown = {q: t for q, t in found.tables.items() if q in CURVES}
    title = f'Test {METRIC.upper()}, mean ± standard deviation over seeds'
    units = '; '.join(f'{q} in {UNITS[q]}' for q in shown)
    done = sum(r.state == 'done' for r in found.runs)
    caption = f'{units}\n{done} of {len(found.runs)} runs done'.lstrip()
    terminal = Terminal(title=title, caption=caption)
    terminal.add_column('method')
    terminal.add_column('error')
    counts = sorted({n for t in shown.values() for n in labels_of(t)})
    for n in counts:
        terminal.add_column(f'{n} label{"s" * (n > 1)}', justify='right')
    for row in found.rows:
        for i, (quantity, t) in enumerate(shown.items()):
            found_here = [t.get((row, n)) for n in counts]
            seeds = most_seeds(t)
            cells = ['–' if s is None else words.cell(s, seeds) for s in found_here]
            name, last = '' if i else row, i == len(shown) - 1
            terminal.add_row(name, quantity, *cells, end_section=last)
    return terminal


# ---- pictures


def _draw(found: Comparison) -> dict[str, Path]:
    """Draw all figures; return the files that go into the page."""
    folder = found.out / 'figures'
    make_folder(folder)
    drawn = {}
    curves = {q: t for q, t in found.tables.items() if q in CURVES}
    if curves:
        path = folder / 'learning_curves'
        figures.learning_curves(curves, METRIC, found.looks, str(path))
        drawn['learning_curves'] = path.with_suffix('.svg')
    if found.needed:
        path = folder / 'labels_saved'
        figures.labels_needed(found.needed, found.looks, str(path))
        drawn['labels_saved'] = path.with_suffix('.svg')
    files = {
        row: run.folder / 'test' / 'predictions.npz'
        for row, run in typical(found).items()
    }
    pictures = figures.parity(files, found.looks, folder)
    return drawn | {PARITY + row: Path(path) for row, path in pictures.items()}


def _uri(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f'data:{TYPES[path.suffix]};base64,{content}'


# ---- the page


def _environment() -> Environment:
    # names of runs and messages of errors are others' words: nothing of it is HTML
    return Environment(
        loader=PackageLoader('sevennet_mf.study.report'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def content(found: Comparison) -> dict[str, Any]:
    """Return what the template needs, except for the pictures."""
    study, runs = found.study, found.runs
    compared = [r for r in runs if r.labels]
    done = [r for r in compared if r.state == 'done']
    target = str(study.get('target') or 'target')
    return {
        'target': target,
        'others': [name for name in study.get('order') or () if name != target],
        'rows': found.rows,
        'looks': found.looks,
        'reference': REFERENCE,
        'metric': METRIC.upper(),
        'headlines': {
            q: headline(q, found.tables[q], found.needed.get(q, []), target)
            for q in CURVES
            if q in found.tables
        },
        'facts': _facts(found),
        'budgets': [_budget(row, done, study) for row in found.rows],
        'same_budget': words.same_budget(done),
        'doubt': str((study.get('test') or {}).get('doubt') or ''),
        'caveat': words.caveat(done),
        'seen': any(r.test_low_labelled for r in done),
        'inferred': words.inferred(done),
        'errors': [_errors(found, quantity) for quantity in found.tables],
        'needed': [_needed(found, quantity) for quantity in found.needed],
        'typical': typical(found),
        'failed': [r for r in runs if r.went_wrong],
        'open': [
            r for r in runs if r.state in ('waiting', 'running', 'interrupted')
        ],
        'done': len([r for r in runs if r.state == 'done']),
        'total': len(runs),
        'versions': study.get('versions') or {},
        'command': study.get('command') or _command(found),
    }


def _command(found: Comparison) -> str:
    return f'sevennet-mf study study.yaml -o {found.out.name or "study"}'


def _facts(found: Comparison) -> dict[str, str]:
    """What was compared, as far as it is known."""
    study, done = found.study, [r for r in found.runs if r.state == 'done']
    # of the runs: a study may have grown since study.json was written
    counts = sorted({r.labels for r in found.runs} - {0})
    seeds = sorted({r.seed for r in found.runs})
    tested = max((r.test_structures or 0 for r in done), default=0)
    tested = tested or int((study.get('test') or {}).get('structures') or 0)
    training = study.get('training') or {}
    others = training.get('others') or {}
    facts = {
        'Test set': f'{tested} structures' if tested else '',
        'Split': words.split(study),
        'Target labels in training': ', '.join(str(n) for n in counts),
        'Other labels in training': words.listed(
            f'{n} {name}' for name, n in others.items()
        ),
        'Validation': words.listed(
            f'{n} {name}' for name, n in (study.get('validation') or {}).items()
        ),
        'Seeds': ', '.join(str(seed) for seed in seeds),
        'Checkpoint evaluated': str(study.get('checkpoint') or ''),
        'Batch size': str(study.get('batch_size') or ''),
        'Training YAML': str(study.get('input_yaml') or ''),
    }
    return {name: text for name, text in facts.items() if text}


def _budget(
    row: str, done: Sequence[RunResult], study: Mapping[str, Any]
) -> dict[str, Any]:
    own = [r for r in done if r.row == row]
    about = (study.get('rows') or {}).get(row) or {}
    parameters = sorted({r.parameters for r in own if r.parameters})
    low = sorted({r.low_labels for r in own if r.low_labels is not None})
    seconds = [r.seconds for r in own if r.seconds is not None]
    return {
        'row': row,
        'method': own[0].method if own else about.get('method', ''),
        'set': about.get('set') or {},
        'steps': words.steps(own),
        'parameters': ' or '.join(f'{n:,}' for n in parameters),
        'low_labels': ' or '.join(f'{n:,}' for n in low),
        'inferred': words.span(r.inferred for r in own if r.inferred is not None),
        'runs': len(own),
        'minutes': words.number(sum(seconds) / len(seconds) / 60) if seconds else '',
    }


def _errors(found: Comparison, quantity: str) -> dict[str, Any]:
    """A table of errors: a line per row, a column per number of labels."""
    mean = found.tables[quantity]
    rmse = found.errors('rmse').get(quantity, {})
    counts = labels_of(mean)
    seeds = most_seeds(mean)
    best = {n: min(s.mean for (_, m), s in mean.items() if m == n) for n in counts}
    lines = []
    for row in found.rows:
        cells = [
            None
            if (row, n) not in mean
            else {
                'text': words.cell(mean[row, n], seeds),
                'rmse': words.spread(rmse[row, n]) if (row, n) in rmse else '',
                'best': mean[row, n].mean == best[n],
            }
            for n in counts
        ]
        lines.append({'row': row, 'cells': cells})
    return {
        'quantity': quantity,
        'unit': UNITS[quantity],
        'counts': counts,
        'seeds': seeds,
        'lines': lines,
    }


def _needed(found: Comparison, quantity: str) -> dict[str, Any]:
    """A table of labels saved: a line per row, a column per number of labels."""
    answers = {(n.row, n.labels): n for n in found.needed[quantity]}
    counts = sorted({labels for _, labels in answers})
    rows = [row for row in found.rows if any(r == row for r, _ in answers)]
    return {
        'quantity': quantity,
        'counts': counts,
        'lines': [
            {'row': row, 'cells': [answers.get((row, n)) for n in counts]}
            for row in rows
        ],
        'notes': sorted({n.note for n in answers.values() if n.note}),
    }
