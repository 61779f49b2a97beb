"""report.html: what a study compared, and what it found, on one page of its own."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table as Terminal

from sevennet_mf.files import make_folder, write_text
from sevennet_mf.study.report import figures, page, results, words
from sevennet_mf.study.report.findings import CURVES, METRIC, Findings, typical
from sevennet_mf.study.report.results import UNITS
from sevennet_mf.study.report.seeds import labels_of, most_seeds

TYPES: Final[dict[str, str]] = {'.svg': 'image/svg+xml', '.png': 'image/png'}
PARITY: Final[str] = 'parity '  # and the row: a picture's name in the template


def write(out: str) -> str:
    """Write results.csv, figures/ and report.html of a study; return the latter.

    A study that has not ended is reported as far as it is. The page has all its
    pictures in it and asks for nothing from elsewhere. Raises UserError if `out` is
    not the folder of a study, or cannot be written.
    """
    found = Findings.of(out)
    results.write(found.runs, str(found.out / 'results.csv'))
    drawn = _draw(found)
    pictures = {name: _uri(path) for name, path in drawn.items()}
    template = _environment().get_template('report.html.jinja')
    html = template.render(
        page.content(found),
        pictures=pictures,
        has_parity=any(name.startswith(PARITY) for name in pictures),
    )
    path = str(found.out / 'report.html')
    write_text(path, html)
    return path


def table(out: str) -> Terminal:
    """Return the errors of a study as a table for the terminal.

    Raises UserError if `out` is not the folder of a study.
    """
    found = Findings.of(out)
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


def _draw(found: Findings) -> dict[str, Path]:
    """Draw what there is to draw; return the files that go into the page."""
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
