"""Conductivities of all temperatures: from trajectories to JSON and a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sevennet_mf import __version__
from sevennet_mf.analysis.conductivity.arrhenius import (
    MS_PER_CM,
    UNLIKELY,
    Arrhenius,
    Carriers,
    Estimate,
)
from sevennet_mf.analysis.conductivity.diffusion import Diffusion
from sevennet_mf.analysis.conductivity.trajectory import SAME
from sevennet_mf.arrays import Floats

HAVEN: Final[str] = 'assumed to be 1: ions move independently of each other'


@dataclass(frozen=True, eq=False)
class AtTemperature:
    """What one temperature gave.

    Attributes:
        temperature: In K.
        carriers: Ions, charge, volume.
        framework: What displacements are relative to.
        duration: Of what was analysed, in ps.
        interval: Between its frames, in ps.
        diffusion: The result.
        source: Files.
    """

    temperature: float
    carriers: Carriers
    framework: str
    duration: float
    interval: float
    diffusion: Diffusion
    source: Sequence[str]

    @property
    def conductivity(self) -> Floats | None:
        """(n_samples,) in S/m; None if the run is not diffusive."""
        if self.diffusion.samples is None:
            return None
        return self.carriers.conductivity(self.diffusion.samples, self.temperature)


@dataclass(frozen=True, eq=False)
class Conductivities:
    """Everything that was found.

    Attributes:
        model: Name of the model; '' for trajectories that were read.
        temperatures: Ascending.
        failures: By temperature, why there is nothing.
        line: None with fewer than two temperatures that diffuse.
        target: Temperature in K to which the line is drawn.
    """

    model: str
    temperatures: Sequence[AtTemperature]
    failures: Mapping[float, str]
    line: Arrhenius | None
    target: float

    @property
    def lowest(self) -> AtTemperature:
        """The lowest temperature, whose density of ions is that at `target`."""
        return self.temperatures[0]

    @property
    def at_target(self) -> Floats | None:
        """(n_samples,) conductivity on the line in S/m, with that density."""
        if self.line is None:
            return None
        carriers = self.lowest.carriers
        return carriers.conductivity(self.line.diffusion(self.target), self.target)


# ---- JSON


def as_dictionary(results: Conductivities) -> dict[str, Any]:
    """Return the content of conductivity.json: plain builtins, all finite."""
    return {
        'sevennet_mf': __version__,
        'model': results.model or None,
        'haven_ratio': HAVEN,
        'temperatures': [_temperature(found) for found in results.temperatures],
        'failed': [
            {'temperature_K': temperature, 'reason': why}
            for temperature, why in results.failures.items()
        ],
        'arrhenius': _arrhenius(results),
    }


def _temperature(found: AtTemperature) -> dict[str, Any]:
    diffusion, carriers = found.diffusion, found.carriers
    sigma = found.conductivity
    sd = diffusion.exponent_sd
    return {
        'temperature_K': found.temperature,
        'files': list(found.source),
        'ion': carriers.ion,
        'charge_e': carriers.charge,
        'ions': carriers.number,
        'volume_A3': carriers.volume,
        'displacements_relative_to': found.framework,
        'analysed_ps': found.duration,
        'frame_ps': found.interval,
        'is_diffusive': diffusion.samples is not None,
        'why_not': diffusion.reason or None,
        'msd_exponent': diffusion.exponent,
        'msd_exponent_sd': sd if math.isfinite(sd) else None,
        'diffusive_from_ps': None if diffusion.samples is None else diffusion.start,
        'is_stationary': diffusion.is_stationary,
        'halves_differ_by_sd': diffusion.halves,
        'diffusion_cm2_per_s': _estimate(diffusion.samples),
        'conductivity_S_per_m': _estimate(sigma),
        'conductivity_mS_per_cm': _estimate(sigma, MS_PER_CM),
        'msd': {
            'lag_ps': diffusion.lags.tolist(),
            'msd_A2': diffusion.msd.tolist(),
            'sd_A2': diffusion.msd_sd.tolist(),
        },
    }


def _arrhenius(results: Conductivities) -> dict[str, Any] | None:
    line, sigma = results.line, results.at_target
    if line is None or sigma is None:
        return None
    return {
        'temperatures_K': line.temperatures.tolist(),
        'activation_energy_eV': _estimate(line.energies),
        'ln_D0_cm2_per_s': _estimate(line.intercepts),
        'fit_probability': line.probability,
        'is_line': line.is_line,
        'at_K': results.target,
        'is_extrapolation': line.is_extrapolation(results.target),
        'density_of_K': results.lowest.temperature,
        'diffusion_cm2_per_s': _estimate(line.diffusion(results.target)),
        'conductivity_S_per_m': _estimate(sigma),
        'conductivity_mS_per_cm': _estimate(sigma, MS_PER_CM),
    }


def _estimate(samples: Floats | None, factor: float = 1.0) -> dict[str, Any] | None:
    if samples is None:
        return None
    found = Estimate.of(samples).times(factor)
    return {
        'median': found.median,
        'within_68': list(found.within_68),
        'within_95': list(found.within_95),
    }


# ---- table


def shown(results: Conductivities, folder: str) -> RenderableType:
    """Return what the command prints."""
    lines = [Text(f'{t:g} K: {why}') for t, why in results.failures.items()]
    if not results.temperatures:
        return Group(*lines)
    table = Table(
        title=f'Ionic conductivity{_of(results)}',
        title_justify='left',
        caption=_caption(results, folder),
        caption_justify='left',
    )
    table.add_column('T (K)', justify='right')
    table.add_column('analysed (ps)', justify='right')
    table.add_column('exponent of MSD', justify='right')
    for name in ('D (cm²/s)', 'σ (mS/cm)', '68 %', '95 %'):
        table.add_column(name, justify='right')
    for found in results.temperatures:
        table.add_row(*_row(found))
    for found in results.temperatures:
        lines += [Text(line) for line in _doubts(found)]
    return Group(table, *lines, *map(Text, _line_words(results)))


def _doubts(found: AtTemperature) -> list[str]:
    diffusion, said = found.diffusion, []
    if diffusion.reason:
        said.append(
            f'{found.temperature:g} K: no conductivity; {diffusion.reason}. '
            'Simulate for longer.'
        )
    if not diffusion.is_stationary:
        speed = 'faster' if diffusion.halves > 0 else 'slower'
        said.append(
            f'{found.temperature:g} K: ions are {speed} in the second half of the '
            f'run, by {abs(diffusion.halves):.1f} standard deviations: it is not in '
            'equilibrium. Leave out more with --equilibration.'
        )
    return said


def _of(results: Conductivities) -> str:
    ions = {found.carriers.ion for found in results.temperatures}
    of = f' of {", ".join(sorted(ions))}' if ions else ''
    return f'{of}, {results.model}' if results.model else of


def _row(found: AtTemperature) -> list[str]:
    diffusion, sigma = found.diffusion, found.conductivity
    cells = [
        f'{found.temperature:g}',
        f'{found.duration:g}',
        f'{diffusion.exponent:.2f} ± {diffusion.exponent_sd:.2f}',
    ]
    if diffusion.samples is None or sigma is None:
        return [*cells, 'not diffusive', '–', '–', '–']
    in_ms = Estimate.of(sigma).times(MS_PER_CM)
    d = Estimate.of(diffusion.samples).median
    return [
        *cells,
        f'{d:.2e}',
        f'{in_ms.median:.4g}',
        _range(in_ms.within_68),
        _range(in_ms.within_95),
    ]


def _range(ends: tuple[float, float]) -> str:
    return f'{ends[0]:.3g} to {ends[1]:.3g}'


def _caption(results: Conductivities, folder: str) -> str:
    found = results.temperatures[0]
    carriers = found.carriers
    return (
        f'Nernst–Einstein, Haven ratio {HAVEN}. {carriers.number} {carriers.ion} of '
        f'charge {carriers.charge:+g} e in {carriers.volume:.1f} Å³. Displacements '
        f'relative to {found.framework}. Written: {folder}/'
    )


def _line_words(results: Conductivities) -> list[str]:
    line, sigma = results.line, results.at_target
    if line is None or sigma is None:
        return [
            'No Arrhenius line: it needs two temperatures at which ions diffuse.'
        ]
    energy, at = Estimate.of(line.energies), Estimate.of(sigma).times(MS_PER_CM)
    said = [
        f'Activation energy {energy.median:.3f} eV (68 %: '
        f'{_range(energy.within_68)}; 95 %: {_range(energy.within_95)}).'
    ]
    is_far = line.is_extrapolation(results.target)
    how = 'EXTRAPOLATED, not simulated' if is_far else 'on the line'
    low, high = line.temperatures.min(), line.temperatures.max()
    said.append(
        f'{results.target:g} K, {how} ({low:g} to {high:g} K): σ = {at.median:.3g} '
        f'mS/cm (68 %: {_range(at.within_68)}; 95 %: {_range(at.within_95)})'
        f'{_density_words(results)}.'
    )
    if line.probability is None:
        said.append('Two temperatures: nothing says whether they lie on a line.')
    elif not line.is_line:
        said.append(
            f'The points do not lie on a line (probability {line.probability:.2g}, '
            f'less than {UNLIKELY:g}): do not trust the extrapolation.'
        )
    return said


def _density_words(results: Conductivities) -> str:
    """Whose density a conductivity on the line has, where temperatures differ."""
    volumes = [found.carriers.volume for found in results.temperatures]
    if max(volumes) - min(volumes) <= SAME * min(volumes):
        return ''
    return f', with the density at {results.lowest.temperature:g} K'
