"""From a checkpoint file, or the name of a pretrained one, to a model."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

import sevenn
import sevenn._keys as KEY
from sevenn.nn.sequential import AtomGraphSequential

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.checkpoint import unpickle
from sevennet_mf.checkpoint.file import OpenedCheckpoint, read_checkpoint
from sevennet_mf.checkpoint.origin import names_in
from sevennet_mf.errors import HostError, UserError
from sevennet_mf.model import accelerators
from sevennet_mf.model.fused import fuse

# what a model without a name for its fidelity is called
UNNAMED: Final[str] = 'model'


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and what is needed to use it.

    Attributes:
        model: The module, on the CPU and in evaluation mode.
        config: SevenNet's configuration, with defaults filled in.
        fidelities: Names by index; one for a model of a single fidelity.
        cutoff: Å.
        type_map: Atomic number -> index of the element.
        path: The file.
    """

    model: AtomGraphSequential
    config: dict[str, Any]
    fidelities: tuple[str, ...]
    cutoff: float
    type_map: dict[int, int]
    path: str

    @property
    def provenance(self) -> dict[str, Any]:
        """What training wrote about itself; empty for the host's files."""
        return dict(self.config.get(keys.PROVENANCE) or {})

    @property
    def differences(self) -> dict[str, str]:
        """A line of warning for each fidelity that is a difference of two."""
        about = self.provenance.get('about') or {}
        return {
            name: f'{name} of {self.path} is a difference to {low}: it is not a '
            f'potential on its own. DeltaCalculator adds it to a model of {low}.'
            for name, notes in about.items()
            if name in self.fidelities and (low := notes.get(keys.DIFFERENCE_TO))
        }


def load_model(
    name: str,
    *,
    enable_cueq: bool = False,
    enable_flash: bool = False,
    enable_oeq: bool = False,
    fused: bool = True,
    trust: bool = False,
) -> LoadedModel:
    """Return the model of a checkpoint. The plugin is registered on the way.

    Args:
        name: Path of a checkpoint of this package or of SevenNet, or the name of a
            pretrained model.
        enable_cueq: Give the model cuEquivariance.
        enable_flash: Give the model FlashTP.
        enable_oeq: Give the model OpenEquivariance.
        fused: Without an accelerator, compute the convolutions with the fused kernel
            on a CPU; see `fuse`.
        trust: Read a file that brings code along, which runs; only for one you made
            yourself.

    Returns:
        The model, with every parameter of the file, and what is needed to use it.

    Raises:
        UserError: There is no such file; it is no checkpoint of SevenNet, truncated,
            from a newer version or cannot be built; it holds code; an accelerator
            is missing or loses a parameter.
        HostError: The installed `sevenn` is not one this package works with.
    """
    with unpickle.trusting(trust):
        path, content = read_checkpoint(name)
    flags = {
        'enable_cueq': enable_cueq,
        'enable_flash': enable_flash,
        'enable_oeq': enable_oeq,
    }
    return model_of(path, content, flags, fused)


def model_of(
    path: str,
    content: dict[str, Any],
    flags: dict[str, bool] | None = None,
    fused: bool = True,
) -> LoadedModel:
    """Return the model of a file that has been read; otherwise as `load_model`.

    Args:
        path: The file.
        content: What is in it, as from `read_checkpoint`.
        flags: The accelerators, by the names they have in `load_model`; none by
            default.
        fused: As of `load_model`.
    """
    flags = flags or accelerators.asked({})
    biases = bool(content['config'].get(KEY.USE_BIAS_IN_LINEAR))
    accelerators.check(**flags, config={KEY.USE_BIAS_IN_LINEAR: biases})
    sevennet_mf.register()
    try:
        config, model = _build(OpenedCheckpoint(path, content), flags)
    except (HostError, UserError):
        raise
    except Exception as error:  # whatever a strange configuration raises
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(
            f'{path}: its model cannot be built: {reason[:300].rstrip(".")}. It was '
            f'written by sevenn {content["config"]["version"]}; the installed '
            f'version is {sevenn.__version__}.'
        ) from error
    model.eval()
    if fused:
        fuse(model)
    return LoadedModel(
        model=model,
        config=config,
        fidelities=names_in(config) or (UNNAMED,),
        cutoff=float(config[KEY.CUTOFF]),
        type_map={int(z): int(i) for z, i in config[KEY.TYPE_MAP].items()},
        path=path,
    )


def _build(
    file: OpenedCheckpoint, flags: dict[str, bool]
) -> tuple[dict[str, Any], AtomGraphSequential]:
    """The configuration and the model of a file, with the accelerator of `flags`."""
    config = file.config
    own = accelerators.asked(config)
    if own == flags:
        return config, file.build_model(**flags)  # the host loads it strictly
    with redirect_stdout(io.StringIO()):  # the host prints that it converts
        model = file.build_model(**flags)
    # an e3nn file may be of a version whose weights the host renames and sorts
    # when it loads them strictly; there were no accelerators then
    source = file.model_state_dict if any(own.values()) else None
    source = source or file.build_model().state_dict()
    accelerators.check_carried(source, model, file.checkpoint_path)
    accelerators.switch(config, **flags)
    return config, model
