"""Phase diagrams of all levels as JSON, CSV and a table with what changes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sevennet_mf import __version__
from sevennet_mf.analysis.hull.compare import (
    DOUBTFUL_VOLUME,
    Hulls,
    LevelHull,
    RelaxedPhase,
    StabilityChange,
    failure_lines,
)

MEV: Final[float] = 1000.0
CAPTION: Final[str] = (
    'Relative to the elements at the same level. The hull is made of these '
    'structures only. No corrections, no zero-point motion, 0 K.'
)
HEAD: Final[tuple[str, ...]] = (
    *('phase', 'formula', 'level', 'atoms', 'energy_eV_per_atom'),
    *('formation_energy_eV_per_atom', 'above_hull_meV_per_atom', 'on_hull'),
    *('decays_to', 'relaxed', 'max_force_eV_per_A', 'steps', 'volume_A3_per_atom'),
    *('volume_change_percent', 'same_as', 'source'),
)
HEADS: Final[tuple[str, str]] = ('form.', 'hull')


# ---- files


def as_dictionary(hulls: Hulls) -> dict[str, Any]:
    """Return the content of hull.json: plain builtins, all finite."""
    return {
        'sevennet_mf': __version__,
        'structures': 'fixed' if hulls.how.fixed else 'relaxed',
        'fmax_eV_per_A': hulls.how.fmax,
        'steps': hulls.how.steps,
        'tolerance_meV_per_atom': MEV * hulls.tolerance,
        'levels': {
            level.name: {
                'with': level.told,
                'phases': {n: _phase(one) for n, one in level.phases.items()},
                'tie_lines': [list(pair) for pair in level.tie_lines],
            }
            for level in hulls.levels
        },
        'difference': _differences(hulls),
        'stability_changes': [
            {
                'phase': change.name,
                'stable_at': list(change.stable_at),
                'above_hull_meV_per_atom': {
                    level: MEV * above for level, above in change.above_hull.items()
                },
                'beyond_tolerance': change.is_clear,
            }
            for change in hulls.changes
        ],
        'failed': {name: dict(lines) for name, lines in hulls.failures.items()},
    }


def _phase(one: RelaxedPhase) -> dict[str, Any]:
    phase, change = one.phase, one.volume_change
    return {
        'formula': phase.formula,
        'atoms': len(one.atoms),
        'energy_eV_per_atom': phase.energy,
        'formation_energy_eV_per_atom': phase.formation_energy,
        'above_hull_meV_per_atom': MEV * phase.above_hull,
        'on_hull': phase.is_stable,
        'decays_to': phase.decays_to,
        'relaxed': one.converged,
        'max_force_eV_per_A': one.force if math.isfinite(one.force) else None,
        'steps': one.steps,
        'volume_A3_per_atom': one.volume,
        'volume_change_percent': None if change is None else 100 * change,
        'same_as': one.same_as or None,
        'source': one.start.source,
    }


def _differences(hulls: Hulls) -> dict[str, Any] | None:
    """Last level minus first."""
    first, last = hulls.levels[0], hulls.levels[-1]
    if first is last:
        return None
    return {
        'is': f'{last.name} - {first.name}',
        'phases': {
            name: {
                'formation_energy_eV_per_atom': difference[0],
                'above_hull_meV_per_atom': MEV * difference[1],
            }
            for name in hulls.names
            for difference in [_difference(first, last, name)]
        },
    }


def _difference(first: LevelHull, last: LevelHull, name: str) -> tuple[float, float]:
    """Of formation energy and energy above hull, in eV/atom."""
    one, other = first.phases[name].phase, last.phases[name].phase
    return (
        other.formation_energy - one.formation_energy,
        other.above_hull - one.above_hull,
    )


def as_rows(hulls: Hulls) -> list[list[Any]]:
    """Return the lines of hull.csv: one for each phase and level."""
    rows: list[list[Any]] = [list(HEAD)]
    for name in hulls.names:
        for level in hulls.levels:
            content = _phase(level.phases[name])
            content['decays_to'] = _mixture(content['decays_to'])
            cells = {'phase': name, 'level': level.name, **content}
            rows.append([_cell(cells[column]) for column in HEAD])
    return rows


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return f'{value:.6f}' if isinstance(value, float) else value


def _mixture(parts: dict[str, float]) -> str:
    """'0.40 MgO + 0.60 TiO2', in shares of the atoms."""
    if len(parts) == 1:
        return next(iter(parts))
    shares = sorted(parts.items(), key=lambda part: -part[1])
    return ' + '.join(f'{share:.2f} {name}' for name, share in shares)


# ---- what is printed


def shown(hulls: Hulls, folder: str) -> RenderableType:
    """Return what the command prints."""
    parts: list[RenderableType] = [_energies(hulls)]
    if any(True for _ in _unstable(hulls)):
        parts.append(_decompositions(hulls))
    lines = [*_change_lines(hulls), *_doubts(hulls)]
    lines += [f'left out: {line}.' for line in failure_lines(hulls.failures)]
    lines.append(f'Written: {folder}/')
    return Group(*parts, *map(Text, lines))


def _energies(hulls: Hulls) -> Table:
    state = 'structures as they are' if hulls.how.fixed else 'relaxed at each level'
    told = ', '.join(dict.fromkeys(level.told for level in hulls.levels))
    table = Table(
        title=f'{"–".join(hulls.elements)}, {told}, {state}: formation energy '
        '(form.) in eV/atom, energy above hull in meV/atom',
        title_justify='left',
        caption=CAPTION,
        caption_justify='left',
    )
    table.add_column('phase', no_wrap=True)
    table.add_column('formula', no_wrap=True)
    for level in hulls.levels:
        for head in HEADS:
            table.add_column(f'{level.name}\n{head}', justify='right')
    first, last = hulls.levels[0], hulls.levels[-1]
    if first is not last:
        for head in HEADS:
            difference = f'{last.name} −\n{first.name}\n{head}'
            table.add_column(difference, justify='right')
    for name in hulls.names:
        cells: list[str] = []
        for level in hulls.levels:
            one = level.phases[name]
            star = '' if one.converged else '*'
            cells += [
                f'{one.phase.formation_energy:.3f}{star}',
                f'{MEV * one.phase.above_hull:.1f}{star}',
            ]
        if first is not last:
            formation, above = _difference(first, last, name)
            cells += [f'{formation:+.3f}', f'{MEV * above:+.1f}']
        table.add_row(name, first.phases[name].phase.formula, *cells)
    return table


def _unstable(hulls: Hulls) -> Iterator[str]:
    """Names of phases that are above the hull somewhere."""
    for name in hulls.names:
        if not all(level.phases[name].phase.is_stable for level in hulls.levels):
            yield name


def _decompositions(hulls: Hulls) -> Table:
    table = Table(
        title='What phases above the hull decompose into, in shares of the atoms',
        title_justify='left',
    )
    table.add_column('phase')
    for level in hulls.levels:
        table.add_column(level.name)
    for name in _unstable(hulls):
        found = [level.phases[name].phase for level in hulls.levels]
        table.add_row(
            name,
            *('stable' if p.is_stable else _mixture(p.decays_to) for p in found),
        )
    return table


def _change_lines(hulls: Hulls) -> list[str]:
    """Which phases change their stability between levels."""
    if len(hulls.levels) == 1:
        return []
    limit = f'{MEV * hulls.tolerance:g} meV/atom'
    clear = [change for change in hulls.changes if change.is_clear]
    close = [change for change in hulls.changes if not change.is_clear]
    if clear:
        said = [f'Stability changes between the levels, by more than {limit}:']
        said += [f'  {_change(change)}' for change in clear]
    else:
        said = [f'No stability changes between the levels by more than {limit}.']
    if close:
        said.append(f'Too close to call, within {limit}:')
        said += [f'  {_change(change)}' for change in close]
    return [*said, *_tie_line_lines(hulls)]


def _tie_line_lines(hulls: Hulls) -> list[str]:
    """What coexists at one of the levels only, by formula."""
    said = []
    for level in hulls.levels:
        others = [other for other in hulls.levels if other is not level]
        own = [
            ' with '.join(pair)
            for pair in level.coexisting
            if len(set(pair)) == 2
            and not any(pair in other.coexisting for other in others)
        ]
        if own:
            said.append(f'In equilibrium at {level.name} only: {", ".join(own)}.')
    return said


def _change(change: StabilityChange) -> str:
    above = ', '.join(
        f'{MEV * value:.1f} meV/atom above it at {level}'
        for level, value in change.above_hull.items()
    )
    return f'{change.name}: on the hull at {", ".join(change.stable_at)}; {above}'


def _doubts(hulls: Hulls) -> list[str]:
    said: list[str] = []
    for level in hulls.levels:
        for name, one in level.phases.items():
            if not one.converged:
                said.append(
                    f'* {name} at {level.name} is not relaxed after {one.steps} '
                    f'steps: the largest force is {one.force:.3f} eV/Å, and '
                    f'{hulls.how.fmax:g} was requested. Its energy is too high; '
                    'the same command with larger --steps continues.'
                )
            change = one.volume_change
            if change is not None and abs(change) > DOUBTFUL_VOLUME:
                said.append(
                    f'{name} at {level.name} changed its volume by '
                    f'{100 * change:+.0f} %: is it still the same phase, and does '
                    f'{level.told} know it?'
                )
            if one.same_as:
                said.append(
                    f'{name} has become the same as {one.same_as} at {level.name}: '
                    'energies and volumes agree.'
                )
    return said
