"""What e3nn and torch work out anew for every model, worked out once a process.

e3nn writes and optimises the code of each tensor product and linear layer, which is
nine tenths of the time that a small model takes to build. The code is a function of
irreps and instructions alone, and each model gets a copy of its own, as if e3nn had
just written it.
"""

from __future__ import annotations

import copy
import functools
import inspect
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

import e3nn.math._normalize_activation as activation
import e3nn.o3._linear as linear
import e3nn.o3._tensor_product._tensor_product as tensor_product
import pytest
import torch
from torch import fx

Source = tuple[list[str], int]  # lines, number of the first

PROVIDERS = ('_CODEGEN_PROVIDERS_LEFT_RIGHT', '_CODEGEN_PROVIDERS_RIGHT')
# as they are without us
OURS_ARE_IN_THE_PLACE_OF = {
    (linear, '_codegen_linear'): linear._codegen_linear,
    **{(tensor_product, one): getattr(tensor_product, one) for one in PROVIDERS},
    (activation, 'moment'): activation.moment,
    (inspect, 'getsourcelines'): inspect.getsourcelines,
}


def keep(patch: pytest.MonkeyPatch) -> None:
    """Replace what is a pure function of its arguments by one that remembers."""
    patch.setattr(linear, '_codegen_linear', kept(linear._codegen_linear))
    for name in PROVIDERS:
        providers = getattr(tensor_product, name)
        patch.setattr(tensor_product, name, [kept(one) for one in providers])
    # of a million random numbers, always the same
    patch.setattr(activation, 'moment', functools.cache(activation.moment))
    # torch reads the source of every class that it scripts
    patch.setattr(inspect, 'getsourcelines', of_objects(inspect.getsourcelines))


def forget(patch: pytest.MonkeyPatch) -> None:
    """Undo `keep`."""
    for (module, name), value in OURS_ARE_IN_THE_PLACE_OF.items():
        patch.setattr(module, name, value)


def kept(codegen: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns copies of what `codegen` made of equal arguments."""
    made: dict[Any, Any] = {}

    @functools.wraps(codegen)
    def remember(*args: Any, **options: Any) -> Any:
        key = torch.get_default_dtype(), hashable(args), hashable(options)
        if key not in made:
            made[key] = codegen(*args, **options)
        return copied(made[key])

    return remember


def hashable(value: Any) -> Any:
    """The same arguments, with tuples in the place of lists and dictionaries."""
    if isinstance(value, dict):
        return tuple(sorted((name, hashable(one)) for name, one in value.items()))
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(map(hashable, value))
    return value


def copied(made: Any) -> Any:
    """A graph module, alone or first of a tuple, that shares no tensor with it."""
    if not isinstance(made, fx.GraphModule):
        return made and (copied(made[0]), *made[1:])
    own = copy.deepcopy(made)
    type(own).__name__ = type(made).__name__  # which a copy loses
    return own


def of_objects(look: Callable[[Any], Source]) -> Callable[[Any], Source]:
    """`look`, which finds the source of a function or class, once for each."""
    seen: weakref.WeakKeyDictionary[Any, Source] = weakref.WeakKeyDictionary()

    @functools.wraps(look)
    def remember(what: Any) -> Source:
        if not isinstance(what, FunctionType | type):
            return look(what)
        if what not in seen:
            seen[what] = look(what)
        lines, first = seen[what]
        return list(lines), first

    return remember
