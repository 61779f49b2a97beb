"""A model whose inference and training step wait for nothing: for CUDA graphs.

SevenNet's batched models ask the device how many structures a batch has. Here all
atoms are of one graph and one fidelity, as ML-IAP and the pair styles have it, and
every operation of a step can be recorded: energy, forces, loss, gradients and Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sevenn._keys as KEY
import torch
from sevenn.checkpoint import SevenNetCheckpoint
from variants import Case

import sevennet_mf
from sevennet_mf.errors import UserError
from sevennet_mf.model import accelerators
from sevennet_mf.model.build import fidelity_layers
from sevennet_mf.model.fused import fuse, fused_layers, why_not

E3NN, FUSED = 'e3nn', 'fused kernel'
# what SevenNet calls the switch of each
SWITCHES = ('enable_cueq', 'enable_flash', 'enable_oeq')
FLAGS = dict(zip(accelerators.NAMES, SWITCHES, strict=True))
CONVOLUTIONS = (E3NN, FUSED, *FLAGS)
EAGER, GRAPH, COMPILE = 'eager', 'CUDA graph', 'torch.compile'
MODES = (EAGER, GRAPH, COMPILE)
INFERENCE, TRAIN = 'inference', 'training step'
TASKS = (INFERENCE, TRAIN)
# each call's answer: energy (), forces (n_atoms, 3), and of a training step the norm
# of the gradient (), all detached
Answer = tuple[torch.Tensor, ...]
Task = Callable[[], Answer]


def absent(convolution: str) -> str | None:
    """Why a convolution is not to be had here, or None. Raises nothing."""
    if convolution == FUSED:
        return why_not()
    if convolution in FLAGS:
        try:
            accelerators.check(**{FLAGS[convolution]: True})
        except UserError as error:
            return str(error)
    return None


def build(checkpoint: Path, convolution: str, device: torch.device) -> Any:
    """The model of a checkpoint, for one graph, without its own forces."""
    sevennet_mf.register()
    file = SevenNetCheckpoint(checkpoint)
    flags = {FLAGS[convolution]: True} if convolution in FLAGS else {}
    model = file.build_model(**flags)
    if flags:
        accelerators.check_carried(file.model_state_dict, model, str(checkpoint))
    if convolution == FUSED and not fused_layers(fuse(model)):
        raise RuntimeError('the kernel cannot do this model')
    model.eval_type_map = model.eval_modal_map = False
    model.set_is_batch_data(False)
    model.delete_module_by_key('force_output')
    return model.to(device)


class TrainedCase(Case):
    """A case whose models own something for each fidelity, as after a training."""

    def model(self, name: str) -> torch.nn.Module:
        model = super().model(name)
        draws = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for layer in fidelity_layers(model):
                for fidelity in range(layer.num_modalities):
                    for parameter in layer.theta(fidelity):
                        noise = torch.randn(parameter.shape, generator=draws)
                        parameter.add_(noise, alpha=0.1)
        return model


class Form:
    """The atoms of a case, and one model that is run on them in any of MODES."""

    def __init__(self, case: Case, checkpoint: Path, convolution: str) -> None:
        self.device = case.device
        self.graph = case.graph()
        # (1,), not (): torch asks the device for an index without dimensions
        self.graph[KEY.MODAL_TYPE] = torch.zeros(
            1, dtype=torch.int64, device=case.device
        )
        self.edges = self.graph[KEY.EDGE_VEC]
        self.n_atoms = case.n_atoms
        self.model = build(checkpoint, convolution, case.device)
        on_gpu = case.device.type == 'cuda'
        # a rate of zero: the same answer at every step, for the same work
        self.adam = torch.optim.Adam(
            self.model.parameters(), lr=0.0, capturable=on_gpu
        )

    def task(self, name: str, mode: str, backend: str) -> Task:
        """One of TASKS in one of MODES, ready to be called; backend: of COMPILE."""
        called: Callable = self.model
        if mode == COMPILE:
            called = torch.compile(self.model, backend=backend)
        step = self._inference if name == INFERENCE else self._step

        def run() -> Answer:
            return step(called)

        return recorded(run, self.device) if mode == GRAPH else run

    def move(self, seed: int) -> None:
        """Move the atoms at random by 0.01 Å: other numbers in the same memory."""
        draws = torch.Generator().manual_seed(seed)
        moves = torch.randn(self.n_atoms, 3, generator=draws).to(self.edges)
        first, second = self.graph[KEY.EDGE_IDX]
        with torch.no_grad():
            self.edges.add_(moves[second] - moves[first], alpha=0.01)

    def _energy_and_forces(self, called: Callable, create_graph: bool) -> Answer:
        energy = called(dict(self.graph))[KEY.PRED_TOTAL_ENERGY].sum()
        (slope,) = torch.autograd.grad(
            energy, [self.edges], create_graph=create_graph
        )
        first, second = self.graph[KEY.EDGE_IDX]
        forces = slope.new_zeros(self.n_atoms, 3)
        forces = forces.index_add(0, first, slope).index_add(0, second, -slope)
        return energy, forces

    def _inference(self, called: Callable) -> Answer:
        self.model.eval()
        energy, forces = self._energy_and_forces(called, create_graph=False)
        return energy.detach(), forces

    def _step(self, called: Callable) -> Answer:
        self.model.train()
        self.adam.zero_grad(set_to_none=True)
        energy, forces = self._energy_and_forces(called, create_graph=True)
        # labels of zero: all that a loss needs is a gradient
        loss = (energy / self.n_atoms).square() + forces.square().mean()
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        loss.backward(inputs=parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.adam.step()
        return energy.detach(), forces.detach(), norm.detach()


def recorded(run: Task, device: torch.device) -> Task:
    """`run` as a CUDA graph: one launch for all of its operations."""
    if device.type != 'cuda':
        raise RuntimeError('CUDA graphs need a GPU')
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):  # TorchScript, which e3nn compiles, settles
            run()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = run()

    def replay() -> Answer:
        graph.replay()
        return answer

    return replay
