"""The picture: hulls of two elements, triangles of three, and what is above."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from sevennet_mf import drawing
from sevennet_mf.analysis.hull.compare import Hulls, LevelHull
from sevennet_mf.analysis.hull.report import MEV
from sevennet_mf.arrays import Floats

PANEL: Final[float] = 5.2  # inches
ROW: Final[float] = 0.24  # inches of a phase in the panel with bars
# of the three elements: left, right, top
CORNERS: Final[Any] = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
BACKGROUND: Final[Any] = {'fc': 'white', 'ec': 'none', 'pad': 0.3, 'alpha': 0.8}
LINE: Final[float] = 0.034  # between labels, in sides of the triangle or depths
LABEL: Final[float] = 0.025  # from a point to its label, in sides of the triangle


def draw(hulls: Hulls, path: str) -> None:
    """Draw the phase diagram of each level, and the energies above hull of all."""
    number = len(hulls.elements)
    panels = {2: 1, 3: len(hulls.levels)}.get(number, 0)
    above = [name for name in hulls.names if _highest(hulls, name) > 0]
    height = max(0.82 * PANEL, ROW * len(above) * len(hulls.levels) / 2 + 1)
    with drawing.styled():
        figure = drawing.sheet(PANEL * (panels + 1), height)
        axes = list(np.ravel(figure.subplots(1, panels + 1, squeeze=False)))
        if number == 2:
            _hull_lines(axes[0], hulls)
        if number == 3:
            for panel, level in zip(axes, hulls.levels, strict=False):
                _triangle(panel, level, hulls)
        _bars(axes[-1], hulls, above)
        drawing.save(figure, path)


def _highest(hulls: Hulls, name: str) -> float:
    phases = [level.phases[name].phase for level in hulls.levels]
    return max(0.0 if p.is_stable else p.above_hull for p in phases)


# ---- labels


@dataclass
class PictureLabel:
    """The name of a composition.

    Attributes:
        text: For matplotlib.
        place: Where its edge is that is next to the point.
        direction: From the point to it, of length 1.
        is_stable: Whether a phase of the composition is.
        is_inside: Whether lines may pass below it.
    """

    text: str
    place: Floats
    direction: Floats
    is_stable: bool = True
    is_inside: bool = False


def _write(axes: Any, labels: Sequence[PictureLabel]) -> None:
    for label in labels:
        axes.annotate(
            label.text,
            label.place,
            color=drawing.BLACK if label.is_stable else drawing.GREY,
            ha=_alignment(label.direction[0], 'right', 'left'),
            va=_alignment(label.direction[1], 'top', 'bottom'),
            fontsize=7.5,
            zorder=1.5,  # above lines, below points
            bbox=BACKGROUND if label.is_inside else None,
        )


def _alignment(component: float, negative: str, positive: str) -> str:
    if abs(component) < 0.35:
        return 'center'
    return positive if component > 0 else negative


def _apart(labels: Sequence[PictureLabel], line: float) -> Sequence[PictureLabel]:
    """Move labels on the same side of points down, as far as they would overlap."""
    for sign in (-1, 1):
        beside = [label for label in labels if label.direction[0] == sign]
        beside.sort(key=lambda label: -label.place[1])
        for upper, lower in pairwise(beside):
            lower.place[1] = min(lower.place[1], upper.place[1] - line)
    return labels


# ---- two elements


def _hull_lines(axes: Any, hulls: Hulls) -> None:
    """Formation energies over the composition, with the hull of each level."""
    first, second = hulls.elements
    lowest: dict[str, tuple[float, float]] = {}
    for k, level in enumerate(hulls.levels):
        colour = drawing.COLOURS[k % len(drawing.COLOURS)]
        at = {
            name: (one.phase.fractions.get(second, 0.0), one.phase.formation_energy)
            for name, one in level.phases.items()
        }
        stable = [n for n, one in level.phases.items() if one.phase.is_stable]
        for pair in level.tie_lines:
            axes.plot(*_ends(at, pair), color=colour)
        rest = [at[name] for name in at if name not in stable]
        if rest:
            axes.plot(*np.transpose(rest), 'o', color=colour, mfc='white')
        points = np.transpose([at[name] for name in stable])
        axes.plot(*points, 'o', color=colour, label=level.name)
        for name in stable:
            formula = level.phases[name].phase.formula
            lowest[formula] = min(lowest.get(formula, at[name]), at[name])
    _write(axes, _apart(_below(lowest), LINE * _depth(lowest)))
    axes.set_xlabel(f'x in {first}$_{{1-x}}${second}$_x$')
    axes.set_ylabel('formation energy (eV/atom)')
    axes.set_title('Convex hulls', loc='left')
    axes.margins(y=0.1)
    axes.legend()


def _depth(lowest: Mapping[str, tuple[float, float]]) -> float:
    """How deep the hull is, in eV/atom."""
    return max(-min(energy for _, energy in lowest.values()), 1e-6)


def _below(lowest: Mapping[str, tuple[float, float]]) -> list[PictureLabel]:
    """A label beside each compound, on the side where the hull is not."""
    deepest = min(lowest.values(), key=lambda point: point[1])[0]
    found = []
    for formula, (x, energy) in lowest.items():
        if 0 < x < 1:
            side = -1.0 if x <= deepest else 1.0
            place = np.array([x + 0.02 * side, energy - LABEL * _depth(lowest)])
            direction = np.array([side, 0.0])
            found.append(PictureLabel(subscripts(formula), place, direction))
    return found


def _ends(at: Mapping[str, Any], pair: tuple[str, str]) -> Any:
    """x and y, of both ends of a line."""
    return np.transpose([at[name] for name in pair])


# ---- three elements


def _triangle(axes: Any, level: LevelHull, hulls: Hulls) -> None:
    """Stable phases and tie lines of one level; what others lack is orange."""
    changes = {change.name for change in hulls.changes if change.is_clear}
    at = {
        name: _place(one.phase.fractions, hulls.elements)
        for name, one in level.phases.items()
    }
    everywhere = set.intersection(*(set(one.coexisting) for one in hulls.levels))
    for pair in level.tie_lines:
        is_common = level.formulas(pair) in everywhere
        colour = drawing.GREY if is_common else drawing.ORANGE
        axes.plot(*_ends(at, pair), color=colour, linewidth=1, zorder=1)
    for name, one in level.phases.items():
        if one.same_as:
            continue
        colour = drawing.ORANGE if name in changes else drawing.BLUE
        is_stable = one.phase.is_stable
        axes.plot(
            *at[name],
            'o',
            color=colour if is_stable or name in changes else drawing.GREY,
            mfc=colour if is_stable else 'white',
            markersize=6 if is_stable else 4,
            zorder=2 + is_stable,
        )
    _write(axes, _apart(_labels(level, at), LINE))
    axes.set_title(f'{level.name}: stable phases and tie lines', loc='left')
    axes.set_aspect('equal')
    axes.set_xlim(-0.12, 1.2)
    axes.set_ylim(-0.08, 0.94)
    axes.set_axis_off()


def _place(fractions: dict[str, float], elements: Sequence[str]) -> Floats:
    """Of a composition in the triangle."""
    shares = np.array([fractions.get(element, 0.0) for element in elements])
    found: Floats = shares @ CORNERS
    return found


def _labels(level: LevelHull, at: Mapping[str, Floats]) -> list[PictureLabel]:
    """One for each composition: of its stable phase, if there is one."""
    shown: dict[str, str] = {}
    for name, one in level.phases.items():
        formula = one.phase.formula
        if one.phase.is_stable or formula not in shown:
            shown[formula] = name
    points = np.array([at[name] for name in shown.values()])
    found = []
    for formula, name in shown.items():
        phase = level.phases[name].phase
        text = subscripts(formula)
        if phase.is_stable and not phase.reference_of and name != formula:
            text = subscripts(name if formula in name else f'{formula} ({name})')
        n_elements = len(phase.fractions)
        direction = _free_direction(at[name], points, n_elements)
        place = at[name] + LABEL * direction
        found.append(
            PictureLabel(text, place, direction, phase.is_stable, n_elements == 3)
        )
    return found


def _free_direction(place: Floats, points: Floats, n_elements: int) -> Floats:
    """A direction in which a label has room: outwards, or away from other points."""
    middle = CORNERS.mean(axis=0)
    direction = place - middle
    if n_elements == 2:  # away from the edge, which lies opposite to a corner
        corners = CORNERS - middle
        direction = -corners[np.argmin(corners @ direction)]
        if abs(direction[0]) > 0.1:
            direction = np.array([direction[0], 0.0])
    if n_elements == 3:
        away = place - points
        distance = np.linalg.norm(away, axis=1)
        others = distance > 1e-6
        direction = (away[others] / distance[others, None] ** 3).sum(axis=0)
    length = float(np.linalg.norm(direction))
    return direction / length if length > 0 else np.array([0.0, -1.0])


# ---- any number of elements


def _bars(axes: Any, hulls: Hulls, names: Sequence[str]) -> None:
    """Energies above hull of the phases that are not stable everywhere."""
    if not names:
        drawing.blank(axes, 'all phases are stable')
        return
    width = 0.8 / len(hulls.levels)
    rows = np.arange(len(names))
    for k, level in enumerate(hulls.levels):
        values = [MEV * level.phases[name].phase.above_hull for name in names]
        bars = axes.barh(
            rows + (k - (len(hulls.levels) - 1) / 2) * width,
            values,
            0.92 * width,
            color=drawing.COLOURS[k % len(drawing.COLOURS)],
            label=level.name,
        )
        axes.bar_label(bars, fmt='%.0f', fontsize=7, padding=2)
    axes.set_yticks(rows, [subscripts(name) for name in names])
    axes.invert_yaxis()
    axes.grid(False, axis='y')
    axes.margins(x=0.1)
    axes.set_xlabel('energy above hull (meV/atom)')
    axes.set_title('Not stable at every level', loc='left')
    axes.legend()


def subscripts(name: str) -> str:
    """Return 'Ti2O3' as matplotlib sets it: numbers after a letter are lowered."""
    text = name.replace('$', r'\$')
    return re.sub(r'(?<=[A-Za-z)])(\d+)', r'$_{\1}$', text)
