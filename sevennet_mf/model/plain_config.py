"""The configuration of a plain, single-fidelity SevenNet checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import sevenn
import sevenn._keys as KEY
import torch

from sevennet_mf import keys

RESCALE: Final[str] = 'rescale_atomic_energy'  # the host's name for its last layer

# what only a model of several modalities, or the data it was trained on, needs
_DROPPED: Final[frozenset[str]] = frozenset(
    {
        KEY.MODAL_MAP,
        KEY.MODAL_LIST,
        KEY.NUM_MODALITIES,
        KEY.DEFAULT_MODAL,
        KEY.DATA_MODALITY,
        keys.FIDELITY_MODEL,
        keys.FIDELITY_TRAIN,
        keys.FIDELITY_DATA,
        keys.DEFAULTS,
        '_flash_lammps',
    }
)
_OFF: Final[tuple[str, ...]] = (
    KEY.USE_MODALITY,
    *keys.SITE_SWITCH.values(),
    KEY.USE_MODAL_WISE_SHIFT,
    KEY.USE_MODAL_WISE_SCALE,
    KEY.USE_FLASH_TP,
    KEY.USE_OEQ,
)


def plain_config(
    config: dict[str, Any], state: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """Return the configuration of a plain model with the weights of `state`.

    Everything in it is a plain builtin, so that `torch.load(weights_only=True)`
    reads it.
    """
    plain = {
        key: builtin(value)
        for key, value in config.items()
        if key not in _DROPPED
        and not key.endswith('_cp')
        and not (key.startswith('load_') and key.endswith('_path'))
    }
    # the host's deploy takes the order of the species from this dictionary
    by_index = sorted(config[KEY.TYPE_MAP].items(), key=lambda item: int(item[1]))
    denominators = [
        state[f'{i}_convolution.denominator'].item()
        for i in range(config[KEY.NUM_CONVOLUTION])
    ]
    plain.update(
        {
            **dict.fromkeys(_OFF, False),
            KEY.CUEQUIVARIANCE_CONFIG: {},
            KEY.USE_BIAS_IN_LINEAR: True,
            KEY.TYPE_MAP: {int(z): int(index) for z, index in by_index},
            KEY.SHIFT: rescale_numbers(state, 'shift'),
            KEY.SCALE: rescale_numbers(state, 'scale'),
            KEY.CONV_DENOMINATOR: denominators,
            # an old one would sort the weights of the convolutions once more
            'version': sevenn.__version__,
        }
    )
    return plain


def rescale_numbers(
    state: dict[str, torch.Tensor], name: str
) -> float | list[float]:
    """Return `shift` or `scale` of a state dict as the host's configuration has it.

    Returns:
        eV, by type index; or one number for a model with a single value for all
        elements.
    """
    numbers = [float(x) for x in state[f'{RESCALE}.{name}'].tolist()]
    return numbers[0] if len(numbers) == 1 else numbers


def statistics(
    config: dict[str, Any], state: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """Return shift, scale (eV) and convolution denominators of a state dict.

    They are in the form of the host's configuration of a model that is built for it.
    """
    return {
        KEY.SHIFT: state[f'{RESCALE}.shift'].tolist(),
        KEY.SCALE: state[f'{RESCALE}.scale'].tolist(),
        KEY.CONV_DENOMINATOR: [
            state[f'{i}_convolution.denominator'].item()
            for i in range(config[KEY.NUM_CONVOLUTION])
        ],
    }


def architecture(
    config: Mapping[str, Any], model: torch.nn.Module
) -> dict[str, Any]:
    """Return the size and kind of a model, as `info` shows them; cutoff in Å."""
    return {
        'channel': config.get(KEY.NODE_FEATURE_MULTIPLICITY),
        'lmax': config.get(KEY.LMAX),
        'layers': config.get(KEY.NUM_CONVOLUTION),
        'cutoff': float(config[KEY.CUTOFF]),
        'parity': bool(config.get(KEY.IS_PARITY)),
        'parameters': sum(p.numel() for p in model.parameters()),
        'linear_bias': bool(config.get(KEY.USE_BIAS_IN_LINEAR)),
    }


def builtin(value: Any) -> Any:
    """Return `value` made of None, bool, int, float, str, list and dict only."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return builtin(value.tolist())
    if isinstance(value, dict):
        return {builtin(k): builtin(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [builtin(v) for v in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return None if value is None else str(value)


def json_ready(value: Any) -> Any:
    """Return `builtin(value)` with text keys, and None for NaN and infinities."""
    value = builtin(value)
    if isinstance(value, dict):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, list):
        return [json_ready(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
