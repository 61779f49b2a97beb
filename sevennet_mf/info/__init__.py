"""What a model file is, of any kind, and what is wrong with it."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from sevennet_mf.checkpoint import unpickle
from sevennet_mf.checkpoint.file import is_deployed
from sevennet_mf.deploy.deployed import segments_in
from sevennet_mf.info import of_checkpoint, of_deployed
from sevennet_mf.info.render import render
from sevennet_mf.model.plain_config import json_ready

__all__ = ['info', 'render', 'run']


def info(path: str, trust: bool = False) -> dict[str, Any]:
    """Return what a model file contains, as plain builtins (JSON).

    Nothing deployed is run.

    Args:
        path: A checkpoint of this package or of SevenNet, a pretrained name, a file
            deployed for LAMMPS, or the folder of a parallel one.
        trust: Read a checkpoint even if it contains code.

    Returns:
        The same keys for all kinds of file; 'kind' says which it is. Energies in eV,
        lengths in Å. What the file does not say is None or empty. 'warnings' lists
        what is wrong with it.

    Raises:
        UserError: As of `load_model`.
    """
    if os.path.isdir(path) and segments_in(path):
        found = of_deployed.folder(path)
    elif is_deployed(path):
        found = of_deployed.file(path)
    else:
        with unpickle.trusting(trust):
            found = of_checkpoint.checkpoint(path)
    return dict(json_ready(found))


def run(args: argparse.Namespace) -> Any:
    """Run `sevennet-mf info`; return JSON, or what rich prints."""
    found = info(args.file)
    if args.json:
        return json.dumps(found, indent=2, ensure_ascii=False)
    return render(found)
