"""One fidelity in SevenNet's formats for LAMMPS: TorchScript with metadata."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import zipfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import sevenn
import sevenn._keys as KEY
import torch
from ase import Atoms
from sevenn.scripts.deploy import deploy as host_deploy
from sevenn.scripts.deploy import deploy_parallel as host_deploy_parallel

from sevennet_mf import files, keys
from sevennet_mf.arrays import Floats
from sevennet_mf.data.processed.graphs import host_graph
from sevennet_mf.deploy.deployed import (
    FAST_FILE,
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
from sevennet_mf.deploy.probe import Answers, deviation, probes, worst
from sevennet_mf.deploy.slices import split_slices
from sevennet_mf.errors import HostError, UserError
from sevennet_mf.model.fused import why_not
from sevennet_mf.model.plain_config import architecture, json_ready
from sevennet_mf.model.tabulated import FormError

__all__ = ['deploy', 'read_deployed', 'run']


def deploy(
    checkpoint: str,
    output: str | None = None,
    fidelity: str | None = None,
    references: str | None = None,
    parallel: bool = False,
    table: bool = True,
) -> tuple[list[str], Folded]:
    """Write what the host's `e3gnn` reads; return the paths and what was folded.

    The files are written by the host's own code from the folded model, then compared
    with the original. Existing ones are replaced as a whole or not at all. They also
    contain the model with the fused convolution, which our pair styles run on a CPU.

    Args:
        checkpoint: As of `export`.
        output: A file, whose name ends in .pt, for `e3gnn`; with `parallel` a folder
            of deployed_parallel_<i>.pt for `e3gnn/parallel`. By default
            `<checkpoint>_<fidelity>.pt` or `<checkpoint>_<fidelity>_parallel` in the
            current folder.
        fidelity: As of `export`.
        references: As of `export`.
        parallel: Whether to write segments for `e3gnn/parallel`.
        table: Whether a table replaces the radial network of the fused model.

    Raises:
        UserError: As of `export`.
    """
    if parallel and output is not None:
        _refuse_other_files(output)  # before the work is done
    folded = prepare(checkpoint, fidelity, references)
    return deploy_folded(folded, output, parallel, table), folded


def deploy_folded(
    folded: Folded, output: str | None, parallel: bool, table: bool = True
) -> list[str]:
    """Write a model that is folded already; otherwise as `deploy`."""
    if not parallel and output is not None and not output.endswith('.pt'):
        output = f'{output}.pt'  # as the host does
    target = output_path(
        folded, output, '_parallel' if parallel else '.pt', folder=parallel
    )
    if parallel:
        _refuse_other_files(target)
    with tempfile.TemporaryDirectory() as folder:
        parts = _parts(folded, folder, parallel)
        _check(parts, folded, 'the deployed model')
        fast = _fast_forms(folded, folder, parallel, table)
        for i, part in enumerate(parts):
            position = {'segment': i, 'segments': len(parts)}
            part.extra.update(_about(folded, position, fast[i] if fast else None))
            torch.jit.save(part.module, part.path, _extra_files=part.extra)
        made = [part.path for part in parts]
        if parallel:
            _replace_folder(target, made)
            names = map(os.path.basename, made)
            return [os.path.join(target, name) for name in names]
        with open(made[0], 'rb') as stream:
            content = stream.read()
    files.write_whole(target, lambda out: out.write(content))
    return [target]


def run(args: Namespace) -> str:
    """Run `sevennet-mf deploy`; return what to tell the user."""
    paths, folded = deploy(
        args.checkpoint,
        args.output,
        args.fidelity,
        args.references,
        args.parallel,
        not args.no_table,
    )
    style = 'e3gnn/parallel' if args.parallel else 'e3gnn'
    where = os.path.dirname(paths[0]) if args.parallel else paths[0]
    what = f'{len(paths)} segments' if args.parallel else 'a model'
    return '\n'.join([f'{where}: {what} for pair_style {style}', *folded.summary()])


# ---- writing


@dataclass
class _Part:
    """A model that the host has deployed, or a segment of one.

    path: its file, which is rewritten once; extra: by name, what the file contains
    besides the model.
    """

    path: str
    module: torch.jit.ScriptModule
    extra: dict[str, str | bytes]


def _parts(folded: Folded, folder: str, parallel: bool) -> list[_Part]:
    """Deploy into `folder` by the host's own code; return the parts in order.

    Their gradients are made cheaper; values are the host's.
    """
    os.makedirs(folder, exist_ok=True)
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
    parts = []
    for path in made:
        with zipfile.ZipFile(path) as archive:
            extra: dict[str, str | bytes] = dict(extra_files(archive))
        module = torch.jit.load(path, map_location='cpu')
        split_slices(module.graph)
        parts.append(_Part(path, module, extra))
    return parts


def _fast_forms(
    folded: Folded, folder: str, parallel: bool, table: bool
) -> list[tuple[str, bytes]] | None:
    """Return the fast form of each segment and its name, checked like the rest.

    None, with a warning in `folded`, where there cannot be one.
    """
    reason = why_not()
    for form in ('table', 'network') if table else ('network',):
        if reason is not None:
            break
        try:
            place = os.path.join(folder, form)
            parts = _parts(_in_form(folded, form), place, parallel)
        except FormError as error:  # the next form may do
            folded.warnings.append(f'{error}.')
            continue
        except ValueError as error:  # no plan for these irreps
            reason = str(error)
            break
        _check(parts, folded, f'the fast form ({form}) of the deployed model')
        return [(form, _archive(part)) for part in parts]
    folded.warnings.append(
        f'LAMMPS will run this file with e3nn, which is slower: {reason}.'
    )
    return None


def _archive(part: _Part) -> bytes:
    """The file of a part."""
    stream = io.BytesIO()
    torch.jit.save(part.module, stream, _extra_files=part.extra)
    return stream.getvalue()


def _in_form(folded: Folded, form: str) -> Folded:
    """The same model, which the host's code scripts with the fused convolution."""
    config = {**folded.content['config'], keys.DEPLOYED_FORM: form}
    return replace(folded, content={**folded.content, 'config': config})


def _check(parts: Sequence[_Part], folded: Folded, what: str) -> None:
    """Raise UserError unless a deployed model agrees with the original."""
    try:
        found = _answers([part.module for part in parts], folded)
    except RuntimeError as error:
        if 'KeyError' not in str(error):
            raise
        # omni-train's files compute edges and forces themselves, from positions
        raise HostError(
            f'sevenn {sevenn.__version__}: sevenn.scripts.deploy writes models that '
            'take other inputs than those of sevenn 0.13.0, for which the pair '
            'styles are made. Deploy with it: pip install sevenn==0.13.0'
        ) from None
    apart = worst([deviation(answers, folded.wanted) for answers in found])
    refuse_deviation(apart, what, len(folded.wanted.energy))


def _about(
    folded: Folded, position: dict[str, int], fast: tuple[str, bytes] | None
) -> dict[str, str | bytes]:
    """What a file contains about its origin, and its fast form."""
    found = json_ready(
        {
            'provenance': folded.provenance,
            'hash': folded.content['hash'],  # the same in all segments of a model
            'time': folded.content['time'],
            'fast': fast and fast[0],
            'architecture': architecture(folded.content['config'], folded.model),
            **position,
        }
    )
    extra: dict[str, str | bytes] = {
        # what the pair style compares, so that segments of two models are not mixed
        SEGMENT_FILE: f'{folded.content["hash"]} {position["segment"]}',
        PROVENANCE_FILE: json.dumps(found, indent=1, ensure_ascii=False),
    }
    if fast is not None:
        extra[FAST_FILE] = fast[1]
    return extra


def _refuse_other_files(folder: str) -> None:
    """Raise UserError if `folder` cannot be replaced by a parallel model."""
    if os.path.islink(folder) or (
        os.path.exists(folder) and not os.path.isdir(folder)
    ):
        raise UserError(
            f'a parallel model is a folder, and {folder} is not one. Give another '
            'name with -o.'
        )
    inside = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    others = [name for name in inside if not SEGMENT.fullmatch(name)]
    if others:
        raise UserError(
            f'{folder} contains {others[0]!r}, which a parallel model would '
            'replace. Give another folder with -o.'
        )


def _replace_folder(target: str, made: Sequence[str]) -> None:
    """Replace `target` by a folder with `made`, never by a mix of two models.

    A model with old and new segments would silently give wrong energies.
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
            f'{target} cannot be written: {error.strerror}. Existing files are '
            'untouched; free space or give another folder with -o.'
        ) from None
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


# ---- asking


def _answers(models: Sequence[torch.nn.Module], folded: Folded) -> list[Answers]:
    """What a deployed model predicts for the probes, evaluated as in LAMMPS.

    models: its segments, in order. First with the total energy that they give, then
    with the sum of the atomic ones.
    """
    config = folded.content['config']
    cutoff = float(config[KEY.CUTOFF])
    structures = probes(list(config[KEY.TYPE_MAP]), cutoff)
    # as in the pair style; what is run once is not worth optimising
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

    models: the segments, in order.
    """
    graph = host_graph(atoms, cutoff)
    n = torch.tensor([len(atoms)])
    edges = torch.tensor(graph[KEY.EDGE_VEC], dtype=torch.float32).requires_grad_()
    index = torch.tensor(graph[KEY.EDGE_IDX])
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
