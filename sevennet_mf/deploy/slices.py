"""Cheaper gradients of a deployed model: many slices of a tensor become one split.

e3nn reads the weights of each path, and the features of each irrep, as a slice of
one long tensor. The gradient of a slice is a tensor as long as the whole, filled
with zeros; that of a split is assembled once. Values are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

TO_END: Final[int] = 2**63 - 1  # how TorchScript writes x[2:]
_UNKNOWN: Final = object()
# a tensor that is written into piece by piece cannot be a split
_WRITTEN_INTO: Final = ('aten::new_zeros', 'aten::zeros', 'aten::empty')


@dataclass(frozen=True)
class _Slice:
    """`base[..., start:end, ...]` along `dim`, with known numbers."""

    node: Any
    base: Any
    dim: int
    start: int
    end: int


def split_slices(graph: Any) -> int:
    """Rewrite the graph of a frozen TorchScript module in place.

    Slices of a tensor along one dimension that do not overlap become the parts of
    one split; slices that take all of a tensor are removed. Whatever is written
    into, or sliced by numbers that the graph does not know, is left alone.

    Returns:
        The number of slices that were replaced.
    """
    replaced = 0
    for node in _slices_of_all(graph):
        node.output().replaceAllUsesWith(next(node.inputs()))
        replaced += 1
    torch._C._jit_pass_dce(graph)  # the slices that nothing uses any more
    groups: dict[tuple[str, int], list[_Slice]] = {}
    for found in _known_slices(graph):
        groups.setdefault((found.base.debugName(), found.dim), []).append(found)
    for slices in groups.values():
        ranges = sorted({(s.start, s.end) for s in slices})
        if len(ranges) > 1 and _is_safe(slices, ranges):
            _split(graph, slices, ranges)
            replaced += len(slices)
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_lint(graph)
    return replaced


def _constant(value: Any) -> Any:
    """The value that the graph knows, possibly None; else `_UNKNOWN`."""
    known = value.node().kind() == 'prim::Constant'
    return value.toIValue() if known else _UNKNOWN


def _tensor_slices(graph: Any) -> Iterator[tuple[Any, list[Any]]]:
    for node in graph.findAllNodes('aten::slice'):
        inputs = list(node.inputs())
        if len(inputs) == 5:  # tensor, dim, start, end, step; lists have four
            yield node, inputs


def _slices_of_all(graph: Any) -> list[Any]:
    found = []
    for node, (_, _, *numbers) in _tensor_slices(graph):
        start, end, step = (_constant(n) for n in numbers)
        if start in (0, None) and end in (TO_END, None) and step == 1:
            found.append(node)
    return found


def _known_slices(graph: Any) -> Iterator[_Slice]:
    for node, (base, *numbers) in _tensor_slices(graph):
        dim, start, end, step = (_constant(n) for n in numbers)
        if _are_numbers(dim, start, end) and step == 1 and 0 <= start < end < TO_END:
            yield _Slice(node, base, dim, start, end)
    for node in graph.findAllNodes('aten::narrow'):
        base, *numbers = node.inputs()
        dim, start, length = (_constant(n) for n in numbers)
        if _are_numbers(dim, start, length) and start >= 0 and length > 0:
            yield _Slice(node, base, dim, start, start + length)


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int) for value in values)


def _is_safe(slices: list[_Slice], ranges: list[tuple[int, int]]) -> bool:
    base = slices[0].base.node()
    overlap = any(
        end > start for (_, end), (start, _) in zip(ranges, ranges[1:], strict=False)
    )
    uses = [use for s in slices for use in s.node.output().uses()]
    written = any(use.user.kind().endswith('_') for use in uses)
    # constants have no gradient, and an argument of the graph has no node of its own
    skipped = base.kind() in ('prim::Constant', 'prim::Param', *_WRITTEN_INTO)
    return not (overlap or written or skipped)


def _split(
    graph: Any, slices: list[_Slice], ranges: list[tuple[int, int]]
) -> None:
    """Put one split after `base`; gaps and the rest become parts, too."""
    sizes: list[int] = []
    part: dict[tuple[int, int], int] = {}
    reached = 0
    for start, end in ranges:
        if start > reached:
            sizes.append(start - reached)
        part[start, end] = len(sizes)
        sizes.append(end - start)
        reached = end
    base = slices[0].base
    writer = _Writer(graph, base.node())
    dim = writer.number(slices[0].dim)
    whole = writer.add('aten::size', [base, dim], torch._C.IntType.get())
    rest = writer.add(
        'aten::sub', [whole, writer.number(reached)], torch._C.IntType.get()
    )
    lengths = writer.add(
        'prim::ListConstruct',
        [*map(writer.number, sizes), rest],
        torch._C.ListType(torch._C.IntType.get()),
    )
    tensor = torch._C.TensorType.get()
    parts = writer.add(
        'aten::split_with_sizes', [base, lengths, dim], torch._C.ListType(tensor)
    )
    outputs = writer.unpack(parts, len(sizes) + 1, tensor)
    for one in slices:
        one.node.output().replaceAllUsesWith(outputs[part[one.start, one.end]])


class _Writer:
    """Writes nodes into a graph, one after the other."""

    def __init__(self, graph: Any, behind: Any) -> None:
        self.graph, self.last = graph, behind

    def _put(self, node: Any) -> Any:
        node.insertAfter(self.last)
        self.last = node
        return node

    def number(self, value: int) -> Any:
        node = self._put(self.graph.create('prim::Constant', [], 1))
        node.i_('value', value)
        node.output().setType(torch._C.IntType.get())
        return node.output()

    def add(self, kind: str, inputs: list[Any], type_: Any) -> Any:
        node = self._put(self.graph.create(kind, inputs, 1))
        node.output().setType(type_)
        return node.output()

    def unpack(self, value: Any, n: int, type_: Any) -> list[Any]:
        node = self._put(self.graph.create('prim::ListUnpack', [value], n))
        outputs = list(node.outputs())
        for output in outputs:
            output.setType(type_)
        return outputs
