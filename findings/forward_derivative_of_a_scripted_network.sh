#!/usr/bin/env bash
# The forward derivative of a radial network in TorchScript is right once, then zero.
#
# e3nn 0.6.0, torch 2.13.0, Python 3.11. e3nn's FullyConnectedNet is the radial network of
# SevenNet, NequIP and others, and e3nn.util.jit.script is how these are deployed. Of the
# scripted network torch.func.jvp gives the same derivative as of the network itself in the
# first call, and zeros in all later ones, with no error or warning; values stay right. Who
# tabulates radial weights with their slopes from a deployed model gets a table without
# slopes. Seen:
#
#   call 1: largest derivative 0.532 of the network, 0.532 scripted
#   call 2: largest derivative 0.532 of the network, 0.000 scripted
#   call 3: largest derivative 0.532 of the network, 0.000 scripted
#
# Ends with 0 if that is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 e3nn==0.6.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import copy

import torch
from e3nn.nn import FullyConnectedNet
from e3nn.util.jit import script

torch.manual_seed(0)
network = FullyConnectedNet([4, 8, 3], torch.nn.functional.silu)
scripted = script(copy.deepcopy(network))
x = torch.rand(5, 4)
along = torch.ones_like(x)
found = []
for call in (1, 2, 3):
    wanted, slope = torch.func.jvp(network, (x,), (along,))
    value, other = torch.func.jvp(scripted, (x,), (along,))
    assert torch.equal(value, wanted), 'values differ'
    found.append((float(slope.abs().max()), float(other.abs().max())))
    print(
        f'call {call}: largest derivative {found[-1][0]:.3f} of the network, '
        f'{found[-1][1]:.3f} scripted'
    )
right_once = found[0][1] == found[0][0] > 0
zero_after = all(other == 0 for _, other in found[1:])
raise SystemExit(0 if right_once and zero_after else 1)
PYTHON
