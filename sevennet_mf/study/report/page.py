"""report.html: what a study compared and what it found, on one page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from sevennet_mf.files import make_folder, write_text
from sevennet_mf.study.report import figures, run_results, tables, words
from sevennet_mf.study.report.comparison import CURVES, METRIC, Comparison, typical
from sevennet_mf.study.report.headline import headline
from sevennet_mf.study.report.labels_saved import REFERENCE

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
        'facts': tables.facts(found),
        'budgets': [tables.budget(row, done, study) for row in found.rows],
        'same_budget': words.same_budget(done),
        'doubt': str((study.get('test') or {}).get('doubt') or ''),
        'caveat': words.caveat(done),
        'seen': any(r.test_low_labelled for r in done),
        'inferred': words.inferred(done),
        'errors': [tables.errors(found, quantity) for quantity in found.tables],
        'needed': [tables.needed(found, quantity) for quantity in found.needed],
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
