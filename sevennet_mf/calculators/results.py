"""Results of a calculator: ASE's properties, and what else can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Results(dict[str, Any]):
    """The properties that ASE knows by name, and further results by theirs.

    `SinglePointCalculator(atoms, **results)`, `Atoms.get_properties` and other parts
    of ASE refuse names that are not its own. The further results are therefore not
    entries: they are not counted, listed or copied. They are in `further`, and
    `results['denergy_dlambda']`, `results.get(...)` and `in` find them as if they
    were entries.
    """

    def __init__(
        self, properties: Mapping[str, Any], further: Mapping[str, Any]
    ) -> None:
        super().__init__(properties)
        self.further = dict(further)

    def __missing__(self, name: str) -> Any:
        return self.further[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.further

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, a further result, or `default`."""
        return super().get(name, self.further.get(name, default))
