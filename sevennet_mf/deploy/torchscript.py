"""One fidelity in SevenNet's formats for LAMMPS, TorchScript with metadata."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from argparse import Namespace
from collections.abc import Sequence

import numpy as np
import sevenn._keys as KEY
import torch
from ase import Atoms
from sevenn.scripts.deploy import deploy as host_deploy
from sevenn.scripts.deploy import deploy_parallel as host_deploy_parallel

from sevennet_mf.data.estimator import Floats
from sevennet_mf.deploy.deployed import (
    PROVENANCE_FILE,
    SEGMENT,
    SEGMENT_FILE,
    extra_files,
    read_deployed,
    segments_in,
)
from sevennet_mf.deploy.folded import (
    Folded,
    output_path,
    prepare,
    quiet,
    refuse_deviation,
)
from sevennet_mf.deploy.probe import Answers, deviation, graph_of, probes, worst
from sevennet_mf.deploy.slices import split_slices
from sevennet_mf.errors import UserError
from sevennet_mf.model.plain_config import json_ready
from sevennet_mf.train import checkpoint as files

__all__ = ['deploy', 'read_deployed', 'run']


def deploy(
    checkpoint: str,
    output: str | None = None,
    fidelity: str | None = None,
    references: str | None = None,
    parallel: bool = False,
) -> tuple[list[str], Folded]:
    """Write what the host's `e3gnn` reads; return the paths and what was folded.

    checkpoint, fidelity, references: as `export`. output: a file, its name ending
    in .pt, for `e3gnn`; with parallel a folder of deployed_parallel_<i>.pt for
    `e3gnn/parallel`. By default `<checkpoint>_<fidelity>.pt` or
    `<checkpoint>_<fidelity>_parallel` here. Written by the host's own code from the
    folded model, then compared with the original. What stood there is replaced
    whole or stays. Raises UserError as `export`.
    """
    if parallel and output is not None:
        _refuse_other_files(output)  # before the work is done
    folded = prepare(checkpoint, fidelity, references)
    return deploy_folded(folded, output, parallel), folded


def deploy_folded(folded: Folded, output: str | None, parallel: bool) -> list[str]:
    """Write a model that is folded already; otherwise as `deploy`."""
    if not parallel and output is not None and not output.endswith('.pt'):
        output = f'{output}.pt'  # as the host does
    target = output_path(
        folded, output, '_parallel' if parallel else '.pt', folder=parallel
    )
    if parallel:
        _refuse_other_files(target)
    with tempfile.TemporaryDirectory() as folder:
        made = _write(folded, folder, parallel)
        apart = worst([deviation(a, folded.wanted) for a in _answers(made, folded)])
        refuse_deviation(apart, 'the deployed model', len(folded.wanted.energy))
        if parallel:
            _replace_folder(target, made)
            names = map(os.path.basename, made)
            return [os.path.join(target, name) for name in names]
        with open(made[0], 'rb') as stream:
            content = stream.read()
    files.write_whole(target, lambda out: out.write(content))
    return [target]


def run(args: Namespace) -> str:
    """`sevennet-mf deploy`: returns what to tell the user."""
    paths, folded = deploy(
        args.checkpoint, args.output, args.fidelity, args.references, args.parallel
    )
    style = 'e3gnn/parallel' if args.parallel else 'e3gnn'
    where = os.path.dirname(paths[0]) if args.parallel else paths[0]
    what = f'{len(paths)} segments' if args.parallel else 'a model'
    return '\n'.join([f'{where}: {what} for pair_style {style}', *folded.summary()])


# ---- writing


def _write(folded: Folded, folder: str, parallel: bool) -> list[str]:
    """Deploy into `folder` by the host's own code; return the files in order."""
    source = os.path.join(folder, 'folded.pth')
    place = os.path.join(folder, 'deployed')
    torch.save(folded.content, source)
    with quiet():
        if parallel:
            host_deploy_parallel(source, place)
            made = segments_in(place)
        else:
            host_deploy(source, f'{place}.pt')
            made = [f'{place}.pt']
    for i, path in enumerate(made):
        _finish(path, folded, {'segment': i, 'segments': len(made)})
    return made


def _finish(path: str, folded: Folded, position: dict[str, int]) -> None:
    """Make the file's gradients cheaper, and write down where it comes from."""
    found = json_ready(
        {
            'provenance': folded.provenance,
            'hash': folded.content['hash'],  # the same in all segments of a model
            'time': folded.content['time'],
            **position,
        }
    )
    with zipfile.ZipFile(path) as archive:
        extra = extra_files(archive)
    module = torch.jit.load(path, map_location='cpu')
    split_slices(module.graph)
    # what the pair style compares, so that segments of two models are not mixed
    extra[SEGMENT_FILE] = f'{folded.content["hash"]} {position["segment"]}'
    extra[PROVENANCE_FILE] = json.dumps(found, indent=1, ensure_ascii=False)
    torch.jit.save(module, path, _extra_files=extra)


def _refuse_other_files(folder: str) -> None:
    """Raise UserError if `folder` cannot be replaced by a parallel model."""
    if os.path.islink(folder) or (
        os.path.exists(folder) and not os.path.isdir(folder)
    ):
        raise UserError(
            f'{folder} is not a folder, which a parallel model is. Give another '
            'name with -o.'
        )
    inside = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    others = [name for name in inside if not SEGMENT.fullmatch(name)]
    if others:
        raise UserError(
            f'{folder} holds {others[0]!r}, and a parallel model replaces its '
            'folder. Give another folder with -o.'
        )


def _replace_folder(target: str, made: Sequence[str]) -> None:
    """Put a folder with `made` in the place of `target`, never a mix of two models.

    A model mixed of old and new segments would give wrong energies in silence.
    """
    target = os.path.abspath(target)
    parent, name = os.path.split(target)
    work = None
    try:
        work = tempfile.mkdtemp(dir=parent, prefix=f'.{name}.', suffix='.part')
        new, old = os.path.join(work, 'new'), os.path.join(work, 'old')
        os.mkdir(new)
        for path in made:
            shutil.copyfile(path, os.path.join(new, os.path.basename(path)))
        if os.path.isdir(target):
            os.rename(target, old)
        try:
            os.rename(new, target)
        except OSError:
            if os.path.isdir(old):
                os.rename(old, target)
            raise
    except OSError as error:
        raise UserError(
            f'{target} cannot be written: {error.strerror}. What was there is '
            'untouched; free space or give another folder with -o.'
        ) from None
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


# ---- asking


def _answers(made: Sequence[str], folded: Folded) -> list[Answers]:
    """What deployed files say about the probes, evaluated as LAMMPS does it.

    First with the total energy they give, then with the sum of the atoms' own.
    """
    config = folded.content['config']
    cutoff = float(config[KEY.CUTOFF])
    models = [torch.jit.load(path, map_location='cpu') for path in made]
    structures = probes(list(config[KEY.TYPE_MAP]), cutoff)
    # as the pair style has it; what is run once is not worth optimising
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        each = [_one(models, a, config[KEY.TYPE_MAP], cutoff) for a in structures]
    rest = {
        'forces': np.concatenate([forces for *_, forces in each]),
        'n_atoms': np.array([float(len(atoms)) for atoms in structures]),
    }
    total, atomic, _ = zip(*each, strict=True)
    return [Answers(np.array(energy), **rest) for energy in (total, atomic)]


def _one(
    models: Sequence[torch.nn.Module],
    atoms: Atoms,
    type_map: dict[int, int],
    cutoff: float,
) -> tuple[float, float, Floats]:
    """Energy, sum of the atomic ones (eV), forces (n_atoms, 3) in eV/Å.

    models: the segments, one after the other.
    """
    graph = graph_of(atoms, cutoff)
    n = torch.tensor([len(atoms)])
    edges = graph[KEY.EDGE_VEC].detach().clone().requires_grad_()
    index = graph[KEY.EDGE_IDX]
    data = {
        KEY.NODE_FEATURE: torch.tensor([type_map[int(z)] for z in atoms.numbers]),
        KEY.EDGE_IDX: index,
        KEY.EDGE_VEC: edges,
        KEY.NUM_ATOMS: n,
        KEY.NLOCAL: n,
    }
    for model in models:
        data[KEY.NODE_FEATURE_GHOST] = data[KEY.NODE_FEATURE][:0]  # no ghosts
        data = model(data)
    energy = data[KEY.PRED_TOTAL_ENERGY].sum()
    (slope,) = torch.autograd.grad(energy, [edges])
    forces = torch.zeros(len(atoms), 3, dtype=slope.dtype)
    forces.index_add_(0, index[0], slope).index_add_(0, index[1], -slope)
    atomic = data[KEY.ATOMIC_ENERGY].detach().double().sum()
    return float(energy.detach()), float(atomic), forces.double().numpy()
