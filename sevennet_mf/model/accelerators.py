"""Accelerators (cuEquivariance, FlashTP, OpenEquivariance) that lose nothing.

They replace the convolutions of a model. SevenNet 0.13 continues without one that is
missing, and drops the biases of linear layers, with at most a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import sevenn._keys as KEY
import sevenn.nn.cue_helper as cue
import sevenn.nn.flash_helper as flash
import sevenn.nn.oeq_helper as oeq
import torch

from sevennet_mf.errors import UserError

NAMES: Final = ('cuEquivariance', 'FlashTP', 'OpenEquivariance')
# What a state dict holds besides parameters: constants that differ by accelerator,
# and those that the parallel files copy for ghost atoms
CONVOLUTION_CONSTANT: Final = re.compile(r'\d+_convolution\.convolution\.')
CONSTANT: Final = re.compile(
    r'\d+_convolution\.convolution\.|.*\.output_mask$|.*\.f\.tp\.f_fx\.module\.c'
)
GHOST: Final = 'ghost_'
SURVIVOR: Final = '`sevennet-mf export --accelerated` writes a file that avoids it.'


def asked(config: Mapping[str, Any]) -> dict[str, bool]:
    """Return what a host configuration asks for, as arguments of `check`."""
    block = config.get(KEY.CUEQUIVARIANCE_CONFIG) or {}
    return {
        'enable_cueq': bool(block.get('use')),
        'enable_flash': bool(config.get(KEY.USE_FLASH_TP)),
        'enable_oeq': bool(config.get(KEY.USE_OEQ)),
    }


def name_of(config: Mapping[str, Any]) -> str | None:
    """Return the name of a host configuration's accelerator, or None."""
    for on, name in zip(asked(config).values(), NAMES, strict=True):
        if on:
            return name
    return None


def check(
    enable_cueq: bool = False,
    enable_flash: bool = False,
    enable_oeq: bool = False,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Refuse an accelerator that would be ignored silently, or end in a traceback.

    Args:
        enable_cueq: Whether cuEquivariance is wanted.
        enable_flash: Whether FlashTP is wanted.
        enable_oeq: Whether OpenEquivariance is wanted.
        config: The host's model configuration, which may ask for one as well.

    Raises:
        UserError: There is more than one; it is not installed or lacks its GPU; or
            it is cuEquivariance and the linear layers have biases, for which
            SevenNet falls back to e3nn.
    """
    config = config or {}
    given = (enable_cueq, enable_flash, enable_oeq)
    wanted = [a or b for a, b in zip(given, asked(config).values(), strict=True)]
    names = [name for on, name in zip(wanted, NAMES, strict=True) if on]
    if len(names) > 1:
        raise UserError(f'only one accelerator at a time, got {names}.')
    if not names:
        return
    available = (
        cue.is_cue_available,
        flash.is_flash_available,
        oeq.is_oeq_available,
    )
    if not available[wanted.index(True)]():
        raise UserError(
            f'{names[0]} was requested, but it is not installed here or has no GPU. '
            'Install it, or do not request it.'
        )
    if wanted[0] and config.get(KEY.USE_BIAS_IN_LINEAR):
        raise UserError(
            'cuEquivariance was requested, but the linear layers have biases '
            '(use_bias_in_linear: true), for which SevenNet falls back to e3nn. Use '
            f'FlashTP, OpenEquivariance or no accelerator; {SURVIVOR}'
        )


def switch(
    config: dict[str, Any],
    enable_cueq: bool = False,
    enable_flash: bool = False,
    enable_oeq: bool = False,
) -> None:
    """Set the accelerator of a model in its host configuration."""
    block = config.get(KEY.CUEQUIVARIANCE_CONFIG) or {}
    if enable_cueq or block.get('use'):
        config[KEY.CUEQUIVARIANCE_CONFIG] = {**block, 'use': enable_cueq}
    config[KEY.USE_FLASH_TP] = enable_flash
    config[KEY.USE_OEQ] = enable_oeq


def check_carried(
    source: Mapping[str, torch.Tensor],
    models: torch.nn.Module | Iterable[torch.nn.Module],
    path: str,
) -> None:
    """Refuse a model that lost a parameter, or has one from nowhere.

    Constants of the convolutions differ by accelerator and do not count.

    Args:
        source: The state dict that a model was made from.
        models: The model, or all segments of a parallel one, which repeat some
            layers for ghost atoms.
        path: The file, for the message.

    Raises:
        UserError: A parameter differs; the message names the first.
    """
    parts = [models] if isinstance(models, torch.nn.Module) else list(models)
    built = [item for part in parts for item in part.state_dict().items()]
    pairs = [(n, source.get(n.removeprefix(GHOST)), value) for n, value in built]
    found = dict(built)
    pairs += [(name, value, found.get(name)) for name, value in source.items()]
    lost = next((name for name, *pair in pairs if _differ(name, *pair)), None)
    if lost is not None:
        raise UserError(
            f'{path}: {lost} would be lost with this accelerator, and energies '
            f'would change. Do not use it; {SURVIVOR}'
        )


def _differ(
    name: str, first: torch.Tensor | None, second: torch.Tensor | None
) -> bool:
    """Whether two tensors of this name are not the same parameter.

    The accelerators reshape some. An empty one counts as absent; NaN equals NaN.
    """
    given = [v for v in (first, second) if v is not None and v.numel()]
    if not given or CONSTANT.match(name.removeprefix(GHOST)):
        return False
    if len(given) == 1 or given[0].numel() != given[1].numel():
        return True
    a, b = (value.detach().cpu().reshape(-1) for value in given)
    return not torch.allclose(a, b.to(a), rtol=0.0, atol=0.0, equal_nan=True)
