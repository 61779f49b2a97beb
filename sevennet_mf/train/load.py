"""From a checkpoint file, or the name of a pretrained one, to a model."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from typing import Any, Final

import sevenn
import sevenn._const as const
import sevenn._keys as KEY
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.nn.sequential import AtomGraphSequential

import sevennet_mf
from sevennet_mf import keys
from sevennet_mf.errors import HostError, UserError, nearest
from sevennet_mf.train import checkpoint

# The host's names and the constant that says where each file lies. Its own look-up
# downloads what is not there.
PRETRAINED: Final[dict[str, str]] = {
    '7net-0': 'SEVENNET_0_11Jul2024',
    '7net-0_11jul2024': 'SEVENNET_0_11Jul2024',
    '7net-0_11july2024': 'SEVENNET_0_11Jul2024',
    '7net-0_22may2024': 'SEVENNET_0_22May2024',
    '7net-l3i5': 'SEVENNET_l3i5',
    '7net-mf-0': 'SEVENNET_MF_0',
    '7net-mf-ompa': 'SEVENNET_MF_ompa',
    '7net-omat': 'SEVENNET_omat',
    '7net-omni': 'SEVENNET_omni',
    '7net-omni-i8': 'SEVENNET_omni_i8',
    '7net-omni-i12': 'SEVENNET_omni_i12',
}
CACHE: Final[str] = '~/.cache/sevennet'  # where the host puts what it downloads
# what a model without a name for its fidelity is called
UNNAMED: Final[str] = 'model'


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and what is needed to use it.

    model: on the CPU, in evaluation mode; config: the host's, defaults filled in;
    fidelities: names in the order of the model's modal map, one for a model of a
    single fidelity; cutoff: Å; type_map: atomic number -> index; path: the file.
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


def find_checkpoint(name: str) -> str:
    """Return the path of a checkpoint: `name` itself, or a pretrained model's.

    Raises UserError if there is neither. Nothing is downloaded.
    """
    if os.path.isfile(name):
        return name
    short = str(name).lower().replace('sevennet-', '7net-', 1)
    if short in PRETRAINED:
        own = str(getattr(const, PRETRAINED[short]))
        for path in (own, own.replace(const._prefix, os.path.expanduser(CACHE))):
            if os.path.isfile(path):
                return path
        raise UserError(
            f'the pretrained model {name} is not on this machine, and nothing is '
            f'downloaded here. Fetch it with `sevenn checkpoint {short}`, or give '
            'the path of a checkpoint.'
        )
    if os.path.isdir(name):
        raise UserError(f'{name} is a folder; give the path of a checkpoint in it.')
    folder = os.path.dirname(name) or '.'
    here = os.listdir(folder) if os.path.isdir(folder) else []
    hint = nearest(os.path.basename(name), here) or nearest(short, PRETRAINED)
    present = [
        n for n, c in PRETRAINED.items() if os.path.isfile(str(getattr(const, c)))
    ]
    raise UserError(
        f'no such file: {name}.{hint} Give the path of a checkpoint, or one of '
        f'{present}.'
    )


def read_checkpoint(name: str) -> tuple[str, dict[str, Any]]:
    """Return (path, content of the file) of a checkpoint that can be used here.

    name: a path, or the name of a pretrained model. Raises UserError for what is
    no SevenNet checkpoint, truncated, or written by a newer version.
    """
    path = find_checkpoint(name)
    if _is_deployed(path):
        raise UserError(
            f'{path} is a deployed model (TorchScript), not a checkpoint. Give the '
            'checkpoint it was made from.'
        )
    try:
        content = checkpoint.load(path)
    except UserError:
        raise
    except Exception as error:  # random bytes may set off anything in a pickle
        raise UserError(
            f'{path} is not a SevenNet checkpoint, or it is truncated.'
        ) from error
    check_version(path, content['config'])
    return path, content


def check_version(path: str, config: Any) -> None:
    """Raise UserError if a checkpoint's `config` is of a newer version, or none."""
    if not isinstance(config, dict) or not isinstance(config.get('version'), str):
        raise UserError(
            f'{path} is not a SevenNet checkpoint: its config does not tell the '
            'version that wrote it.'
        )
    written = {'sevenn': config['version']}
    versions = (config.get(keys.PROVENANCE) or {}).get('versions') or {}
    if 'sevennet_mf' in versions:
        written['sevennet_mf'] = versions['sevennet_mf']
    here = {'sevenn': sevenn.__version__, 'sevennet_mf': sevennet_mf.__version__}
    for package, version in written.items():
        if _numbers(version) > _numbers(here[package]):
            raise UserError(
                f'{path} was written by {package} {version}, newer than the '
                f'installed {here[package]}. Install {package} {version} to read it.'
            )


def load_model(name: str) -> LoadedModel:
    """Return the model of a checkpoint, by path or by pretrained name.

    The plugin is registered on the way. Raises UserError, one line: no such file,
    not a SevenNet checkpoint, truncated, from a newer version, not to be built.
    """
    path, content = read_checkpoint(name)
    sevennet_mf.register()
    try:
        file = SevenNetCheckpoint(path)
        config = file.config
        model = file.build_model()
    except HostError:
        raise
    except Exception as error:  # whatever a strange configuration sets off
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(
            f'{path}: its model cannot be built: {reason[:300].rstrip(".")}. It was '
            f'written by sevenn {content["config"]["version"]}, and installed is '
            f'{sevenn.__version__}.'
        ) from error
    model.eval()
    return LoadedModel(
        model=model,
        config=config,
        fidelities=_fidelities(config),
        cutoff=float(config[KEY.CUTOFF]),
        type_map={int(z): int(i) for z, i in config[KEY.TYPE_MAP].items()},
        path=path,
    )


def _fidelities(config: dict[str, Any]) -> tuple[str, ...]:
    if config.get(KEY.USE_MODALITY):
        modal_map = config[KEY.MODAL_MAP]
        return tuple(sorted(modal_map, key=modal_map.__getitem__))
    named = (config.get(keys.PROVENANCE) or {}).get('fidelities') or []
    return (str(named[0]) if len(named) == 1 else UNNAMED,)


def _is_deployed(path: str) -> bool:
    """Whether a file is a TorchScript archive, which torch.load would run."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(n.endswith('/constants.pkl') for n in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _numbers(version: str) -> tuple[int, ...]:
    """'0.13.0.dev1' -> (0, 13, 0)."""
    return tuple(int(part) for part in re.findall(r'\d+', version)[:3])
