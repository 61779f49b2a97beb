"""From a checkpoint of several fidelities to the plain SevenNet file of one."""

from __future__ import annotations

from argparse import Namespace

from sevennet_mf.checkpoint import file as checkpoint_file
from sevennet_mf.deploy.folded import Folded, output_path, prepare


def export(
    checkpoint: str,
    output: str | None = None,
    fidelity: str | None = None,
    references: str | None = None,
    accelerated: bool = False,
) -> tuple[str, Folded]:
    """Write a plain single-fidelity SevenNet checkpoint; return its path and more.

    checkpoint: path or pretrained name; output: path, by default
    `<checkpoint>_<fidelity>.pth` here; fidelity, references: `fold.chosen`;
    accelerated: with modality rows instead of biases, see accelerated.py. Before
    anything is written the new model is compared with the old one on probe
    structures. Raises UserError, and writes nothing, if they disagree, or for a
    file or a name that cannot be used.
    """
    folded = prepare(checkpoint, fidelity, references, accelerated)
    path = output_path(folded, output, '.pth')
    checkpoint_file.save(path, folded.content)
    return path, folded


def run(args: Namespace) -> str:
    """`sevennet-mf export`: returns what to tell the user."""
    path, folded = export(
        args.checkpoint,
        args.output,
        args.fidelity,
        args.references,
        args.accelerated,
    )
    lines = [f'{path}: a plain SevenNet checkpoint', *folded.summary()]
    if folded.modalities:
        first, second = folded.modalities
        lines.append(
            f'SevenNet asks for a modality: {first} and {second} are the same model'
        )
    return '\n'.join(lines)
