"""Fisher information of a model's weights, for elastic weight consolidation.

For a model whose energies per atom and forces are means of normal distributions, the
diagonal of the Fisher information of weight w is, over the structures,

    F_w = < (d(E/N)/dw)^2 + lambda_F / (3 N) sum_k (dF_k/dw)^2 >

with E/N in eV/atom and F_k in eV/Å: half of F_w dw^2 is what moving w by dw adds to
half the squared errors. No labels are needed. The sum over the 3 N force components
is estimated by random signs xi: it is the mean of the square of d(sum_k xi_k F_k)/dw
(Hutchinson, Commun. Stat. Simul. Comput. 18, 1059 (1989)).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sevenn._keys as KEY
import torch
from ase import Atoms
from tqdm import tqdm

from sevennet_mf.checkpoint.file import save
from sevennet_mf.config.paths import existing
from sevennet_mf.data.processed.graphs import host_graph
from sevennet_mf.errors import UserError
from sevennet_mf.model.fold import chosen
from sevennet_mf.model.load import LoadedModel, load_model
from sevennet_mf.model.runner import Runner
from sevennet_mf.train.continuing.self_label import check_elements, structures_in

Weights = dict[str, torch.Tensor]


def fisher_information(
    loaded: LoadedModel,
    structures: Sequence[Atoms],
    fidelity: str | None = None,
    force_weight: float = 0.1,
    samples: int = 1,
    seed: int = 1,
    device: str | torch.device = 'cpu',
) -> Weights:
    """Return F of every weight by the name of its Parameter, on the CPU.

    The model is left as it was.

    Args:
        structures: labelled or not.
        fidelity: the model's; None if it has only one.
        force_weight: lambda_F.
        samples: sets of random signs drawn for each structure.

    Raises:
        UserError: The model does not know an element or the fidelity.
    """
    check_elements(structures, loaded)
    row = chosen(loaded.fidelities, fidelity).references_index
    random = torch.Generator().manual_seed(seed)
    weights = {
        name: p
        for name, p in loaded.model.named_parameters()
        if p.requires_grad and p.numel() and not name.startswith('rescale_')
    }
    with Runner(loaded.model, device, differentiable=True) as runner:
        total = {name: torch.zeros_like(p) for name, p in weights.items()}
        for atoms in tqdm(structures, 'Fisher information', disable=None):
            graph = host_graph(atoms, loaded.cutoff)
            for _ in range(samples):
                output = runner.output([graph], [row])
                parts = _parts(output, len(atoms), force_weight, random)
                _add(parts, weights, total)
        n = len(structures) * samples
        return {name: (value / n).cpu() for name, value in total.items()}


def _parts(
    output: Any, n: int, force_weight: float, random: torch.Generator
) -> list[torch.Tensor]:
    """The quantities to differentiate: energy per atom, and a random sum of forces.

    output: of a structure of n atoms.
    """
    forces = output[KEY.PRED_FORCE]
    signs = torch.randint(0, 2, forces.shape, generator=random) * 2.0 - 1.0
    parts = [output[KEY.PRED_TOTAL_ENERGY].sum() / n]
    if force_weight > 0 and forces.requires_grad:  # atoms are within the cutoff
        scale = (force_weight / (3 * n)) ** 0.5
        parts.append(scale * (signs.to(forces) * forces).sum())
    return parts


def _add(parts: list[torch.Tensor], weights: Weights, total: Weights) -> None:
    """Add the squared derivatives of each part with respect to each weight."""
    for number, part in enumerate(parts):
        slopes = torch.autograd.grad(
            part,
            list(weights.values()),
            retain_graph=number + 1 < len(parts),
            allow_unused=True,
        )
        for square, slope in zip(total.values(), slopes, strict=True):
            if slope is not None:
                square += slope.detach().square()


def run(args: Namespace) -> str:
    """Run `sevennet-mf fisher`: write two files, return what to tell the user."""
    if args.samples < 1:
        raise UserError(f'--samples must be 1 or more, got {args.samples}.')
    if args.force_weight < 0:
        raise UserError(
            f'--force_weight must not be negative, got {args.force_weight}.'
        )
    loaded = load_model(args.checkpoint)
    fidelity = chosen(loaded.fidelities, args.fidelity).name
    files = existing(args.files, 'fisher')
    structures = structures_in(files)
    found = fisher_information(
        loaded,
        structures,
        fidelity,
        args.force_weight,
        args.samples,
        args.seed,
        args.device,
    )
    weights = dict(loaded.model.named_parameters())
    optimum = {name: weights[name].detach().cpu().clone() for name in found}
    path = Path(args.output)
    beside = path.with_name(f'{path.stem}_opt_params{path.suffix}')
    for file, content in ((path, found), (beside, optimum)):
        save(str(file), content)
    return (
        f'{path}: Fisher information of {len(found)} parameters from '
        f'{len(structures)} structures\n'
        f'{beside}: the weights at which it was computed, for SevenNet itself\n'
        'In the YAML, under train.continue: '
        f'{{checkpoint: {args.checkpoint}, fisher_information: {path}, '
        'ewc_lambda: 1.0}'
    )
