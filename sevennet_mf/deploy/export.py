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

    Before anything is written the new model is compared with the old one on probe
    structures.

    Args:
        checkpoint: Path or pretrained name.
        output: Path; by default `<checkpoint>_<fidelity>.pth` in the current folder.
        fidelity: As of `fold.chosen`.
        references: As of `fold.chosen`.
        accelerated: Write modality rows instead of biases, see accelerated.py.

    Raises:
        UserError: The models disagree, or a file or a name cannot be used. Nothing
            is written.
    """
    folded = prepare(checkpoint, fidelity, references, accelerated)
    path = output_path(folded, output, '.pth')
    checkpoint_file.save(path, folded.content)
    return path, folded


def run(args: Namespace) -> str:
    """Run `sevennet-mf export`; return what to tell the user."""
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
            f'SevenNet requires a modality: {first} and {second} are the same model'
        )
    return '\n'.join(lines)
