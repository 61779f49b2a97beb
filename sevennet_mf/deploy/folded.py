"""A fidelity as a plain SevenNet model, compared with its original."""

from __future__ import annotations

import io
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import torch
from ase.data import chemical_symbols
from sevenn.nn.sequential import AtomGraphSequential

from sevennet_mf import keys
from sevennet_mf.calculators.reference_warnings import doubtful, reference_doubts
from sevennet_mf.checkpoint.file import OpenedCheckpoint, read_checkpoint
from sevennet_mf.deploy.accelerated import row_names, two_rows
from sevennet_mf.deploy.probe import (
    ENERGY_TOLERANCE,
    FORCE_TOLERANCE,
    Answers,
    Deviation,
    ask,
    deviation,
    probes,
    worst,
)
from sevennet_mf.errors import UserError
from sevennet_mf.files import make_folder, sha256_of
from sevennet_mf.model.fold import (
    COMMON,
    FoldChoice,
    chosen,
    fold,
    without_theta,
)
from sevennet_mf.model.load import UNNAMED, LoadedModel, load_model
from sevennet_mf.model.plain_config import builtin
from sevennet_mf.train.loop.provenance import versions


@dataclass(frozen=True, eq=False)
class Folded:
    """A fidelity as a plain SevenNet checkpoint, checked but not written.

    Attributes:
        source: Path of the checkpoint that it was made from.
        choice: The fidelity.
        content: Of the new file.
        model: As SevenNet alone builds it.
        elements: Symbols, in the order of atomic numbers.
        wanted: What the original predicts for the probes.
        deviation: How far the new model is from that.
        modalities: The equal rows of an accelerated file; empty for a plain one.
        warnings: Lines.
    """

    source: str
    choice: FoldChoice
    content: dict[str, Any]
    model: AtomGraphSequential
    elements: tuple[str, ...]
    wanted: Answers
    deviation: Deviation
    modalities: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance, of plain builtins; the same in every file made from this."""
        return dict(self.content['config'][keys.PROVENANCE])

    def summary(self) -> list[str]:
        """Return lines on what was folded and how well it agrees."""
        name = self.choice.name
        if name == COMMON:
            name = f'{name}, reference energies of {self.choice.references}'
        return [
            f'fidelity {name}, from {self.source}',
            f'checked on {len(self.wanted.energy)} structures of '
            f'{len(self.elements)} elements: differs by at most {self.deviation}',
            *(f'Warning: {line}' for line in self.warnings),
        ]


def prepare(
    checkpoint: str,
    fidelity: str | None,
    references: str | None,
    accelerated: bool = False,
) -> Folded:
    """Fold a checkpoint and compare both models; nothing is written.

    Raises:
        UserError: The models disagree, or a file or a name cannot be used.
    """
    path, original = read_checkpoint(checkpoint)
    with quiet():
        loaded = load_model(path)
    choice = chosen(loaded.fidelities, fidelity, references)
    structures = probes(list(loaded.type_map), loaded.cutoff)
    wanted = _original_answers(loaded, choice, structures)
    config, state = fold(loaded.model, loaded.config, choice)
    config[keys.PROVENANCE] = _provenance(loaded, choice, original)
    content = _content(config, state, original)
    model = build_alone(content)
    modalities: tuple[str, ...] = ()
    if accelerated:
        config, state = two_rows(model, config, state, choice.name)
        content = {**content, 'config': config, 'model_state_dict': state}
        model = build_alone(content)
        modalities = row_names(choice.name) if model.modal_map else ()
    apart = worst(
        [
            deviation(ask(model, structures, loaded.cutoff, row), wanted)
            for row in modalities or (None,)
        ]
    )
    refuse_deviation(apart, f'{path}: the folded model', len(structures))
    return Folded(
        source=path,
        choice=choice,
        content=content,
        model=model,
        elements=tuple(chemical_symbols[z] for z in sorted(loaded.type_map)),
        wanted=wanted,
        deviation=apart,
        modalities=modalities,
        warnings=list(config[keys.PROVENANCE][keys.FOLDED]['warnings']),
    )


def _original_answers(
    loaded: LoadedModel, choice: FoldChoice, structures: list[Any]
) -> Answers:
    named = choice.references if loaded.model.eval_modal_map else None
    if choice.index is not None:
        return ask(loaded.model, structures, loaded.cutoff, named)
    with without_theta(loaded.model):
        return ask(loaded.model, structures, loaded.cutoff, named)


def refuse_deviation(apart: Deviation, what: str, n: int) -> None:
    """Refuse a model that differs from its original.

    Raises:
        UserError: `apart`, found on `n` probes, exceeds the tolerance.
    """
    if not apart.holds:
        raise UserError(
            f'{what} differs from the original by {apart} on {n} structures; '
            f'{ENERGY_TOLERANCE:.0e} eV/atom and {FORCE_TOLERANCE:.0e} eV/Å are '
            'allowed. Nothing was written.'
        )


def build_alone(content: dict[str, Any]) -> AtomGraphSequential:
    """Return the model that SevenNet itself builds from a file with `content`."""
    return OpenedCheckpoint('folded.pth', content).build_model().eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Within, what the host prints and its warnings are hidden."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


# ---- the file


def _content(
    config: dict[str, Any], state: dict[str, torch.Tensor], original: dict[str, Any]
) -> dict[str, Any]:
    return {
        'config': config,
        'epoch': builtin(original.get('epoch')),
        'model_state_dict': state,
        'optimizer_state_dict': {},
        'scheduler_state_dict': {},
        'time': datetime.now().strftime('%Y-%m-%d %H:%M'),
        'hash': uuid.uuid4().hex,
    }


def _provenance(
    loaded: LoadedModel, choice: FoldChoice, original: dict[str, Any]
) -> dict[str, Any]:
    """What is known about the original, and that this was made from it."""
    known = loaded.provenance
    earlier = known.get(keys.FOLDED)
    doubts = reference_doubts(loaded).get(choice.references, [])
    doubts = [*((earlier or {}).get('warnings') or []), *doubts]
    ours = loaded.config.get(keys.FIDELITY_MODEL) or {}
    several = len(loaded.fidelities) > 1
    own = {
        'fidelities': [choice.name],
        keys.FOLDED: {
            'file': os.path.basename(loaded.path),
            'sha256': sha256_of(loaded.path),
            'hash': original.get('hash'),
            'sevenn': original['config']['version'],  # the version that wrote it
            'fidelities': list(loaded.fidelities),
            'fidelity': choice.name,
            'references': choice.references,
            'encoding': ours.get('encoding', 'bias') if several else None,
            'date': datetime.now().strftime('%Y-%m-%d'),
            'warnings': doubts,
            'doubtful': doubtful(loaded, choice.references),
            # for a file that was folded before
            'earlier': earlier,
        },
        'versions': versions(),
    }
    if 'versions' in known:
        own['trained_with'] = known['versions']
    kept = {key: value for key, value in known.items() if key != keys.FOLDED}
    return dict(builtin({**kept, **own}))


def output_path(
    folded: Folded, output: str | None, ending: str, folder: bool = False
) -> str:
    """Return where to write, and make the folder around it.

    Args:
        folded: What is written.
        output: The user's choice; by default a name made from the original's, in the
            current folder.
        ending: Of the default name.
        folder: Whether a folder is to be written.

    Raises:
        UserError: It is a folder instead of a file, or the original itself.
    """
    if output is None:
        stem = os.path.splitext(os.path.basename(folded.source))[0]
        name = folded.choice.name
        safe = ''.join(c if c.isalnum() or c in '_.+-' else '_' for c in name)
        output = f'{stem}_{"plain" if name == UNNAMED else safe}{ending}'
    if os.path.exists(output) and os.path.samefile(output, folded.source):
        raise UserError(
            f'{output} is the checkpoint itself, which is never overwritten. Give '
            'another name with -o.'
        )
    if not folder and os.path.isdir(output):
        raise UserError(f'{output} is a folder; give the name of a file with -o.')
    parent = os.path.dirname(os.path.abspath(output))
    make_folder(parent, 'Choose another folder with -o.')
    return output
