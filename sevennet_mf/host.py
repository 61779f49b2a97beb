"""The only file that assigns into `sevenn`: one table of seams.

`register()` wraps a handful of the host's functions; each wrapper passes on to the
original unless a `fidelity` block is present. `unregister()` puts the very same
objects back.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sevennet_mf import host_calls, keys
from sevennet_mf.errors import HostError

WORKS_WITH = 'sevenn 0.13.0'


@dataclass(frozen=True)
class Seam:
    """A function of the host that is wrapped.

    Attributes:
        module: Of the host.
        name: Of the function.
        parameters: Those it must have.
        wrap: Returns our wrapper of the function.
    """

    module: str
    name: str
    parameters: tuple[str, ...]
    wrap: Callable[[Callable], Callable]


def _read_config_yaml(original: Callable) -> Callable:
    @functools.wraps(original)
    def read_config_yaml(filename: str, return_separately: bool = True) -> Any:
        from sevennet_mf.config import inputs
        from sevennet_mf.config.yaml_file import RepeatedKey
        from sevennet_mf.errors import UserError

        try:
            sections = inputs.load_yaml(filename)
        except RepeatedKey:
            with open(filename, 'rb') as stream:
                if b'fidelity' in stream.read():  # perhaps in the one it would drop
                    raise
            sections = {}
        except UserError:
            sections = {}  # the host has its own error
        if not inputs.has_fidelity(sections):
            with _own_defaults():
                return original(filename, return_separately)
        model, train, data = inputs.from_sections(sections)
        if return_separately:
            return model, train, data
        return {**model, **train, **data}

    return read_config_yaml


def _patch_modules(original: Callable) -> Callable:
    @functools.wraps(original)
    def patch_modules(layers: Any, config: dict[str, Any]) -> Any:
        if form := config.get(keys.DEPLOYED_FORM):
            from sevennet_mf.model.tabulated import make_scriptable

            layers = make_scriptable(layers, form == 'table')
        if not config.get(keys.FIDELITY_MODEL):
            return original(layers, config)
        from sevennet_mf.model.build import check_kept, patch_fidelity

        ours = patch_fidelity(layers, config)
        patched = original(ours.copy(), config)
        check_kept(ours, patched)  # an accelerator might replace linear layers
        return patched

    return patch_modules


def _convert_backend(original: Callable) -> Callable:
    @functools.wraps(original)
    def convert(
        stct_src: dict, stct_dst: dict, src_config: dict, from_cueq: bool
    ) -> dict:
        from sevennet_mf.model.build import carry_theta, is_bias

        biases = any(is_bias(name, value) for name, value in stct_src.items())
        if not biases and not src_config.get(keys.FIDELITY_MODEL):
            return original(stct_src, stct_dst, src_config, from_cueq)
        rest, ours = carry_theta(stct_src, stct_dst)
        converted = original(rest, stct_dst, src_config, from_cueq)
        converted.update({name: value.clone() for name, value in ours.items()})
        return converted

    return convert


def _build_model(original: Callable) -> Callable:
    @functools.wraps(original)
    def build_E3_equivariant_model(  # noqa: N802 the host's name
        config: dict, parallel: bool = False
    ) -> Any:
        from sevenn.logger import Logger

        from sevennet_mf.kernels.library import is_asked_for
        from sevennet_mf.model.fused import carrier, fuse

        model = original(config, parallel)
        # SevenNet's own training stays SevenNet's, unless the user wants otherwise
        if parallel or not is_asked_for():
            return model
        model = fuse(model)
        Logger().format_k_v('Convolution', carrier(config, model), write=True)
        return model

    return build_E3_equivariant_model


def _train_v2(original: Callable) -> Callable:
    @functools.wraps(original)
    def train_v2(config: dict[str, Any], working_dir: str) -> None:
        from sevennet_mf.kernels import library

        is_ours = keys.FIDELITY_DATA in config
        library.check_environment(is_used=is_ours)  # before data are read
        if not is_ours:
            return original(config, working_dir)
        from sevennet_mf.config.run_inputs import from_merged
        from sevennet_mf.distributed import Process
        from sevennet_mf.train.run import train

        # the host's own program has joined the others already
        process = Process(
            config.get('rank', 0),
            config.get('local_rank', 0),
            config.get('world_size', 1),
            config.get('ddp_backend', 'nccl'),
        )
        train(from_merged(config), working_dir, process)

    return train_v2


SEAMS = (
    Seam(
        'sevenn.parse_input',
        'read_config_yaml',
        ('filename', 'return_separately'),
        _read_config_yaml,
    ),
    # looked up at call time by build_E3_equivariant_model, once per segment
    Seam(
        'sevenn.model_build',
        'patch_modules',
        ('layers', 'config'),
        _patch_modules,
    ),
    Seam(
        'sevenn.checkpoint',
        '_convert_e3nn_and_cueq',
        ('stct_src', 'stct_dst', 'src_config', 'from_cueq'),
        _convert_backend,
    ),
    Seam('sevenn.scripts.train', 'train_v2', ('config', 'working_dir'), _train_v2),
    Seam(
        'sevenn.scripts.train',
        'build_E3_equivariant_model',
        ('config', 'parallel'),
        _build_model,
    ),
)
# Filled into every old checkpoint that is loaded, so it must say "off"
DEFAULTS = ('sevenn._const', 'DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG')

_originals: dict[Seam, Callable] = {}
_wrappers: dict[Seam, Callable] = {}


def is_registered() -> bool:
    """Whether the host is wrapped at present."""
    return bool(_originals)


def register() -> None:
    """Wrap every seam of the host; a second call changes nothing.

    Raises:
        HostError: The host lacks a seam, or a function that is called takes other
            arguments; nothing is changed.
    """
    if is_registered():
        return
    found = {seam: _find(seam) for seam in SEAMS}
    defaults = _defaults()
    for difference in host_calls.differences():
        raise _refusal(difference)
    for seam, original in found.items():
        _originals[seam] = original
        _wrappers[seam] = seam.wrap(original)
        setattr(importlib.import_module(seam.module), seam.name, _wrappers[seam])
    defaults[keys.FIDELITY_MODEL] = False


def unregister() -> None:
    """Put the host's own objects back.

    Raises:
        HostError: Another package has wrapped a seam since.
    """
    for seam, wrapper in _wrappers.items():
        if getattr(importlib.import_module(seam.module), seam.name) is not wrapper:
            raise HostError(
                f'{seam.module}.{seam.name} was replaced after sevennet_mf was '
                'registered; undo that first.'
            )
    for seam, original in _originals.items():
        setattr(importlib.import_module(seam.module), seam.name, original)
    _defaults().pop(keys.FIDELITY_MODEL, None)
    _originals.clear()
    _wrappers.clear()


def _find(seam: Seam) -> Callable:
    try:
        function = getattr(importlib.import_module(seam.module), seam.name)
    except (ImportError, AttributeError):
        raise _refusal(f'{seam.module}.{seam.name} is missing') from None
    parameters = tuple(inspect.signature(function).parameters)
    if parameters != seam.parameters:
        raise _refusal(
            f'{seam.module}.{seam.name} takes {parameters}, not {seam.parameters}'
        )
    return function


def _defaults() -> dict[str, Any]:
    module, name = DEFAULTS
    defaults = getattr(importlib.import_module(module), name, None)
    if not isinstance(defaults, dict):
        raise _refusal(f'{module}.{name} is missing')
    return defaults


@contextmanager
def _own_defaults() -> Iterator[None]:
    """Within, the host's defaults lack what `register()` added."""
    defaults = _defaults()
    off = defaults.pop(keys.FIDELITY_MODEL, None)
    try:
        yield
    finally:
        if off is not None:
            defaults[keys.FIDELITY_MODEL] = off


def _refusal(what: str) -> HostError:
    import sevenn

    return HostError(
        f'sevennet_mf does not work with sevenn {sevenn.__version__}: {what}. '
        f'It works with {WORKS_WITH}: pip install {WORKS_WITH.replace(" ", "==")}'
    )
