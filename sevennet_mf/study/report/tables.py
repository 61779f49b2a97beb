"""The tables of a study's report: their lines and columns.

report.html.jinja shows what these return, so that a new column is added here and
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table as Terminal

from sevennet_mf.study.report import words
from sevennet_mf.study.report.comparison import CURVES, METRIC, Comparison
from sevennet_mf.study.report.run_results import (
    UNITS,
    RunResult,
    labels_of,
    most_seeds,
)


def facts(found: Comparison) -> dict[str, str]:
    """Return what was compared, as far as it is known."""
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


def budget(
    row: str, done: Sequence[RunResult], study: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a line of the table of budgets: what the runs of a row trained."""
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


def errors(found: Comparison, quantity: str) -> dict[str, Any]:
    """Return a table of errors: a line per row, a column per number of labels."""
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


def needed(found: Comparison, quantity: str) -> dict[str, Any]:
    """Return a table of labels saved: a line per row, a column per number."""
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


# ---- the terminal


def for_terminal(out: str) -> Terminal:
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
