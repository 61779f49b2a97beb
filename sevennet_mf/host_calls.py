"""What is called of the host, and with which arguments: one table.

`register()` compares it with the signatures of the installed SevenNet, so that a
function that takes its arguments in another order, or needs one more, is refused by
name before it is called.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

Parameters = list[inspect.Parameter]
BY_PLACE: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
BY_NAME: Final = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)
NAMED: Final = (*BY_PLACE, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Call:
    """A function, a class or a method of the host that is called.

    Attributes:
        module: Of the host.
        name: In it; `Class.method` is called without `self`.
        order: Names of the arguments that are given by position.
        keywords: Of those that are given by name.
    """

    module: str
    name: str
    order: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()

    def difference(self, parameters: Parameters) -> str:
        """Why a function with these parameters cannot be called so, or ''."""
        by_place = [p.name for p in parameters if p.kind in BY_PLACE]
        by_name = {p.name for p in parameters if p.kind in BY_NAME}
        is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        needed = {
            p.name for p in parameters if p.default is p.empty and p.kind in NAMED
        }
        if (
            tuple(by_place[: len(self.order)]) == self.order
            and (is_open or by_name.issuperset(self.keywords))
            and needed.issubset((*self.order, *self.keywords))
        ):
            return ''
        given = [*self.order, *(f'{name}=' for name in self.keywords)]
        return f'takes {_listed(parameters)}, but is called with {_text(given)}'


@dataclass(frozen=True)
class Override:
    """A method of the host that a class of ours has in its place.

    Attributes:
        parameters: All that the host's takes, in order.
    """

    module: str
    name: str
    parameters: tuple[str, ...] = ()

    def difference(self, parameters: Parameters) -> str:
        """Why a method with these parameters cannot be replaced so, or ''."""
        if tuple(p.name for p in parameters) == self.parameters:
            return ''
        wanted = _text(self.parameters)
        return f'takes {_listed(parameters)}, but is replaced by one with {wanted}'


LOGGER: Final = 'sevenn.logger'
RECORDER: Final = 'sevenn.error_recorder'
TRAINER: Final = 'sevenn.train.trainer'
PARSE: Final = 'sevenn.parse_input'
LINEAR: Final = 'sevenn.nn.linear'
CONVOLUTION: Final = 'sevenn.nn.convolution'
SEQUENTIAL: Final = 'sevenn.nn.sequential'
ACCELERATORS: Final = ('cueq', 'flash', 'oeq')

CALLS: Final = (
    Call('sevenn.main.sevenn', 'run', ('args',)),
    # the YAML
    Call(PARSE, 'init_model_config', ('config',)),
    Call(PARSE, 'init_train_config', ('config',)),
    Call(PARSE, 'init_data_config', ('config',)),
    Call(
        'sevenn.scripts.processing_continue',
        'check_config_compatible',
        ('config', 'config_cp'),
    ),
    Call('sevenn.util', 'chemical_species_preprocess', ('input_chem',)),
    Call('sevenn.util', 'unique_filepath', ('filepath',)),
    # checkpoints and models
    Call('sevenn.checkpoint', '_config_cp_routine', ('config',)),
    Call('sevenn.checkpoint', 'SevenNetCheckpoint.__init__', ('checkpoint_path',)),
    Call(
        'sevenn.checkpoint',
        'SevenNetCheckpoint.build_model',
        keywords=tuple(f'enable_{name}' for name in ACCELERATORS),
    ),
    Call('sevenn.model_build', 'build_E3_equivariant_model', ('config',)),
    Call(SEQUENTIAL, 'AtomGraphSequential.set_is_batch_data', ('flag',)),
    Call(SEQUENTIAL, 'AtomGraphSequential._preprocess', ('data',)),
    Call(SEQUENTIAL, 'AtomGraphSequential.forward', ('input',)),
    Call(
        LINEAR,
        'IrrepsLinear.__init__',
        (
            *('irreps_in', 'irreps_out', 'data_key_in', 'data_key_out'),
            'data_key_modal_attr',
        ),
        ('lazy_layer_instantiate',),
    ),
    Call(CONVOLUTION, 'IrrepsConvolution.forward', ('data',)),
    Call(CONVOLUTION, 'IrrepsConvolution.instantiate'),
    Call('sevenn.nn.cue_helper', 'is_cue_available'),
    Call('sevenn.nn.flash_helper', 'is_flash_available'),
    Call('sevenn.nn.oeq_helper', 'is_oeq_available'),
    # data
    Call(
        'sevenn.train.dataload', 'unlabeled_atoms_to_graph', ('atoms', 'cutoff')
    ),
    Call('sevenn.atom_graph_data', 'AtomGraphData.__init__', keywords=('x',)),
    # training
    Call(
        'sevenn.train.loss',
        'LossDefinition.__init__',
        keywords=('name', 'criterion', 'ref_key', 'pred_key'),
    ),
    Call(
        TRAINER,
        'Trainer.__init__',
        keywords=(
            *('model', 'loss_functions', 'optimizer_cls', 'optimizer_args'),
            *('scheduler_cls', 'scheduler_args', 'device'),
        ),
    ),
    Call(TRAINER, 'Trainer.get_lr'),
    Call(TRAINER, 'Trainer.scheduler_step', ('metric',)),
    Call(TRAINER, 'Trainer.get_checkpoint_dict'),
    Call(
        TRAINER,
        'Trainer.load_state_dicts',
        ('model_state_dict', 'optimizer_state_dict', 'scheduler_state_dict'),
    ),
    Call(RECORDER, 'get_err_type', ('name',)),
    Call(
        RECORDER,
        'ErrorMetric.__init__',
        keywords=('name', 'ref_key', 'pred_key', 'unit'),
    ),
    Call(RECORDER, 'ErrorMetric.update', ('output',)),
    Call(RECORDER, 'ErrorMetric.ddp_reduce', ('device',)),
    Call(RECORDER, 'ErrorMetric.reset'),
    Call(RECORDER, 'ErrorMetric.get'),
    Call(RECORDER, 'AverageNumber.update', ('values',)),
    # the log
    Call(LOGGER, 'Logger.__init__', ('filename', 'screen', 'rank')),
    Call(LOGGER, 'Logger.switch_file', ('new_filename',)),
    Call(LOGGER, 'Logger.write', ('content',)),
    Call(LOGGER, 'Logger.writeline', ('content',)),
    Call(LOGGER, 'Logger.format_k_v', ('key', 'val'), ('write',)),
    Call(LOGGER, 'Logger.write_full_table', ('dict_list', 'row_labels')),
    Call(
        LOGGER,
        'Logger.print_config',
        ('model_config', 'data_config', 'train_config'),
    ),
    Call(LOGGER, 'Logger.print_model_info', ('model', 'config')),
    Call(LOGGER, 'Logger.greeting'),
    Call(LOGGER, 'Logger.bar'),
    Call(LOGGER, 'Logger.error', ('e',)),
    Call(LOGGER, 'Logger.timer_start', ('name',)),
    Call(LOGGER, 'Logger.timer_end', ('name',), ('message',)),
    # LAMMPS
    Call('sevenn.scripts.deploy', 'deploy', ('checkpoint', 'fname')),
    Call('sevenn.scripts.deploy', 'deploy_parallel', ('checkpoint', 'fname')),
)
OVERRIDES: Final = (
    Override('sevenn.checkpoint', 'SevenNetCheckpoint._load'),
    Override(TRAINER, 'Trainer.scheduler_step', ('metric',)),
    Override(TRAINER, 'Trainer.get_checkpoint_dict'),
    Override(
        'sevenn.train.loss', 'LossDefinition.get_loss', ('batch_data', 'model')
    ),
    Override(LINEAR, 'IrrepsLinear.instantiate'),
    Override(LINEAR, 'IrrepsLinear.set_num_modalities', ('num_modalities',)),
    Override(LINEAR, 'IrrepsLinear.forward', ('data',)),
    Override(CONVOLUTION, 'IrrepsConvolution.forward', ('data',)),
    Override(CONVOLUTION, 'IrrepsConvolution.instantiate'),
)


def differences() -> Iterator[str]:
    """Yield a line for each entry of the tables that the installed host breaks."""
    for entry in (*CALLS, *OVERRIDES):
        name = f'{entry.module}.{entry.name}'
        try:
            parameters = _parameters(entry.module, entry.name)
        except (AttributeError, ImportError, LookupError):
            yield f'{name} is missing'
            continue
        if difference := entry.difference(parameters):
            yield f'{name} {difference}'


def _parameters(module: str, name: str) -> Parameters:
    """The parameters of a function or method, without `self`.

    A module that nobody has imported yet may take seconds: its source is read.
    """
    found: Any = sys.modules.get(module)
    if found is None:
        parameters = _in_source(module, name)
    else:
        for part in name.split('.'):
            found = getattr(found, part)
        parameters = list(inspect.signature(found).parameters.values())
    return parameters['.' in name :]


def _in_source(module: str, name: str) -> Parameters:
    """As `_parameters`, with `self`, of a module that is not imported."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(module)
    with open(spec.origin, encoding='utf-8') as stream:
        found: Any = ast.parse(stream.read())
    for part in name.split('.'):
        named = [x for x in ast.walk(found) if getattr(x, 'name', None) == part]
        found = named[0]
    if not isinstance(found, ast.FunctionDef):
        raise LookupError(name)
    given, kinds = found.args, inspect.Parameter
    plain = [*given.posonlyargs, *given.args]
    first = len(plain) - len(given.defaults)
    parameters = [
        kinds(
            arg.arg,
            kinds.POSITIONAL_OR_KEYWORD,
            default=kinds.empty if i < first else None,
        )
        for i, arg in enumerate(plain)
    ]
    if given.vararg:
        parameters.append(kinds(given.vararg.arg, kinds.VAR_POSITIONAL))
    for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        value = kinds.empty if default is None else None
        parameters.append(kinds(arg.arg, kinds.KEYWORD_ONLY, default=value))
    if given.kwarg:
        parameters.append(kinds(given.kwarg.arg, kinds.VAR_KEYWORD))
    return parameters


def _listed(parameters: Parameters) -> str:
    return _text([str(p.replace(annotation=p.empty)) for p in parameters])


def _text(names: Iterable[str]) -> str:
    return f'({", ".join(names)})'
