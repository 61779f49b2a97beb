"""What a checkpoint is: architecture, fidelities, reference energies, origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from ase.data import chemical_symbols

from sevennet_mf import keys
from sevennet_mf.calculators.reference_warnings import reference_doubts
from sevennet_mf.checkpoint.file import read_checkpoint
from sevennet_mf.info.common import (
    labels_of,
    nothing_known,
    origins,
    provenance_problems,
)
from sevennet_mf.model import accelerators
from sevennet_mf.model.fused import describe
from sevennet_mf.model.load import LoadedModel, load_model
from sevennet_mf.model.plain_config import architecture
from sevennet_mf.model.shift import reference_energies


def checkpoint(name: str) -> dict[str, Any]:
    """Return `info` of a checkpoint, by path or pretrained name."""
    path, content = read_checkpoint(name)
    loaded = load_model(path)
    config, origin = loaded.config, loaded.provenance
    found = nothing_known(path, _kind(config, origin))
    found.update(origins(origin))
    found.update(
        {
            'sevenn': str(content['config']['version']),
            'when': _text(content.get('time') or config.get('when')),
            'epoch': content.get('epoch'),
            'hash': _text(content.get('hash')),
            'architecture': architecture(config, loaded.model),
            'elements': [chemical_symbols[z] for z in sorted(loaded.type_map)],
            'fidelities': list(loaded.fidelities),
            'reference_energies': _references(loaded),
            'best': _best(content, config),
            'accelerator': accelerators.name_of(content['config']),
            'convolution': describe(loaded.model),
        }
    )
    if len(loaded.fidelities) > 1:
        found.update(_sites(config))
    problems = (*_problems(loaded), *provenance_problems(loaded.fidelities, origin))
    found['warnings'] = [*dict.fromkeys(problems), *_biases(config)]
    return found


def _kind(config: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    if keys.FOLDED in origin:
        # modality rows, or no biases at all
        plain = config.get(KEY.USE_BIAS_IN_LINEAR)
        return 'export' if plain else 'accelerated export'
    return 'checkpoint of sevennet_mf' if origin else 'checkpoint of SevenNet'


def _text(value: Any) -> str | None:
    return None if value in (None, '', 'Not found') else str(value)


def _sites(config: Mapping[str, Any]) -> dict[str, Any]:
    """Encoding and sites; SevenNet's own modality is our `bias`."""
    ours = config.get(keys.FIDELITY_MODEL) or {}
    switched = [site for site, key in keys.SITE_SWITCH.items() if config.get(key)]
    encoding = ours.get('encoding', 'bias')
    own_scale = bool(config.get(KEY.USE_MODAL_WISE_SCALE))
    return {
        'encoding': encoding,
        'rank': ours.get('rank') if encoding == 'lora' else None,
        'sites': list(ours.get('sites') or switched),
        'scale': 'per_fidelity' if own_scale else 'shared',
    }


def _references(loaded: LoadedModel) -> dict[str, dict[str, dict[str, Any]]]:
    """{fidelity: {symbol: energy, std, determined}}; None: the file does not say."""
    energies = reference_energies(loaded.model)
    origin = loaded.provenance.get('reference_energies') or {}
    report: dict[str, dict[str, dict[str, Any]]] = {}
    for row, name in enumerate(loaded.fidelities):
        report[name] = {}
        labels = origin.get(labels_of(name, loaded.provenance)) or {}
        for z in sorted(loaded.type_map):
            known = labels.get(chemical_symbols[z]) or {}
            report[name][chemical_symbols[z]] = {
                'energy': float(energies[row, z]),
                'std': known.get('std'),
                'determined': known.get('determined'),
            }
    return report


def _best(
    content: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The metric that selected the best checkpoint, and its value if stored."""
    metric = config.get(KEY.BEST_METRIC)
    if not metric:
        return None
    kept = (config.get(keys.PROVENANCE) or {}).get('best') or {}
    state = (content.get(keys.TRAINING_STATE) or {}).get('state') or {}
    value = kept.get('value', state.get('best'))
    return {
        'metric': str(metric),
        'value': float(value) if value is not None and np.isfinite(value) else None,
        'epoch': kept.get('epoch', state.get('best_epoch')),
    }


def _problems(loaded: LoadedModel) -> Iterator[str]:
    """What users should know before they trust the model."""
    weights = loaded.model.named_parameters()
    bad = [name for name, p in weights if not torch.isfinite(p).all()]
    if bad:
        yield f'weights are NaN or infinite, first {bad[0]}: the model is unusable.'
    for lines in reference_doubts(loaded).values():
        yield from lines


def _biases(config: Mapping[str, Any]) -> Iterator[str]:
    if config.get(KEY.USE_BIAS_IN_LINEAR):
        yield (
            'its linear layers have biases, which SevenNet alone silently drops '
            'when it converts to cuEquivariance, FlashTP or OpenEquivariance. '
            'sevennet_mf keeps them or refuses, and '
            f'{accelerators.SURVIVOR}'
        )
