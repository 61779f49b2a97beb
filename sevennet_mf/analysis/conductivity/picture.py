"""Pictures: mean squared displacements, and the Arrhenius line."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sevennet_mf import drawing
from sevennet_mf.analysis.conductivity.arrhenius import MS_PER_CM, Estimate
from sevennet_mf.analysis.conductivity.report import AtTemperature, Conductivities
from sevennet_mf.arrays import Floats

COLUMNS: Final[int] = 3
WIDTH, HEIGHT = 3.4, 2.7  # inches of a panel


def draw_msd(results: Conductivities, path: str) -> None:
    """Draw the MSD of each temperature with its uncertainty and the fitted line."""
    number = max(1, len(results.temperatures))
    columns = min(COLUMNS, number)
    rows = -(-number // columns)
    with drawing.styled():
        figure = drawing.sheet(WIDTH * columns, HEIGHT * rows)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for panel in panels:
            panel.set_visible(False)
        for panel, found in zip(panels, results.temperatures, strict=False):
            panel.set_visible(True)
            _msd_panel(panel, found)
        drawing.save(figure, path)


def _msd_panel(axes: Any, found: AtTemperature) -> None:
    diffusion = found.diffusion
    low, high = diffusion.msd - diffusion.msd_sd, diffusion.msd + diffusion.msd_sd
    axes.plot(diffusion.lags, diffusion.msd, color=drawing.BLUE, label='MSD ± σ')
    axes.fill_between(
        diffusion.lags, low, high, color=drawing.BLUE, alpha=0.25, linewidth=0
    )
    state = diffusion.reason.partition(':')[0]
    if diffusion.line is not None:
        lags = diffusion.lags[diffusion.lags >= diffusion.start]
        lines = diffusion.line[:, :1] * lags + diffusion.line[:, 1:]
        _band(axes, lags, lines, 'fit, 95 %')
        axes.axvline(diffusion.start, color=drawing.GREY, linestyle=':')
        state = 'exponent '
        state += f'{diffusion.exponent:.2f} ± {diffusion.exponent_sd:.2f}'
    axes.set_title(f'{found.temperature:g} K, {state}', loc='left')
    axes.set_xlabel('time difference (ps)')
    axes.set_ylabel(f'MSD of {found.carriers.ion} (Å²)')
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend(loc='upper left')


def _band(axes: Any, x: Floats, lines: Floats, label: str) -> None:
    """Median and central 95 % of lines (n_samples, n)."""
    low, middle, high = np.percentile(lines, [2.5, 50, 97.5], axis=0)
    axes.plot(x, middle, color=drawing.ORANGE, linestyle='--')
    axes.fill_between(
        x, low, high, color=drawing.ORANGE, alpha=0.25, linewidth=0, label=label
    )


def draw_arrhenius(results: Conductivities, path: str) -> None:
    """Draw σT over 1000/T, with the line and where it is extrapolated to."""
    with drawing.styled():
        figure = drawing.sheet(4.8, 3.6)
        axes = figure.subplots()
        known = [
            (found, sigma)
            for found in results.temperatures
            if (sigma := found.conductivity) is not None
        ]
        if known:
            _points(axes, known)
            _line(axes, results)
            axes.set_yscale('log')
            axes.set_xlabel('1000 K / T')
            axes.set_ylabel('σT (mS K/cm)')
            axes.legend()
        else:
            drawing.blank(axes, 'no temperature at which ions diffuse')
        axes.set_title('Ionic conductivity, Nernst–Einstein', loc='left')
        drawing.save(figure, path)


def _points(axes: Any, known: list[tuple[AtTemperature, Floats]]) -> None:
    for k, (found, sigma) in enumerate(known):
        own = Estimate.of(sigma).times(MS_PER_CM * found.temperature)
        low, high = own.within_95
        axes.errorbar(
            1000 / found.temperature,
            own.median,
            yerr=[[own.median - low], [high - own.median]],
            fmt='o',
            color=drawing.BLUE,
            capsize=2,
            label='simulated, 95 %' if k == 0 else None,
        )


def _line(axes: Any, results: Conductivities) -> None:
    line = results.line
    if line is None:
        return
    carriers, at = results.temperatures[0].carriers, results.target
    ends = [float(line.temperatures.min()), float(line.temperatures.max())]
    inverse = np.linspace(1 / max([*ends, at]), 1 / min([*ends, at]), 100)
    samples = np.stack(
        [carriers.conductivity(line.diffusion(1 / x), 1.0) for x in inverse], axis=1
    )
    energy = Estimate.of(line.energies)
    label = f'{energy.median:.3f} eV, 95 %'
    _band(axes, 1000 * inverse, MS_PER_CM * samples, label)
    if line.is_extrapolation(at):
        sigma = results.at_target
        assert sigma is not None
        axes.plot(
            1000 / at,
            MS_PER_CM * at * Estimate.of(sigma).median,
            'o',
            color=drawing.ORANGE,
            fillstyle='none',
            label=f'{at:g} K, extrapolated',
        )
