"""Which label the name of a key means, and which of several keys is the likeliest.

Each code and each toolkit names labels in its own way: `REF_forces`, `dft_energy`,
`virials`, `TotEnergy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

# as part of a name, in any case; a `virial_stress` is a stress
NAMED_LIKE: Final[dict[str, str]] = {
    'stress': 'stress(es)?',
    'virial': 'virials?',
    'forces': 'forces?',
    'gradient': 'gradients?',
    'energy': 'energ(y|ies)',
}
# words that make another quantity of a label's name
OTHER: Final[re.Pattern[str]] = re.compile(
    r'\b(weights?|sigma|std|var|variance|err|errors?|uncertainty|mae|rmse|diff'
    r'|difference|delta|residual|scale|shift|units?|mask|threshold|tol|tolerance'
    r'|max|min|norm|mean|average|per|atom|above|hull|formation|atomi[sz]ation'
    r'|cohesive|binding|adsorption|surface|interaction|reaction|barrier|activation'
    r'|relative|kinetic|zero|zpe|fermi|gap|band|dispersion|cutoff|correction'
    r'|repulsion|exchange|correlation|ewald|entropy|enthalpy|vibrational|thermal'
    r'|isolated|homo|lumo|constants?|external|applied|bias|spring|magnetic)\b'
)
PER_ATOM: Final[re.Pattern[str]] = re.compile('(per|each|by)_?atom|_pa$')
# words that say nothing of where a label comes from
NO_ORIGIN: Final = ('tot', 'total', 'tensor')
# those that computed labels have in many data sets, and those of predictions
USUAL: Final = ('ref', 'reference', 'dft', '')
PREDICTED: Final[re.Pattern[str]] = re.compile(
    r'\b(mace|nequip|chgnet|m3gnet|nnp?|ml|mlip|pred\w*)\b'
)


def kind_of_name(name: str) -> tuple[str | None, str]:
    """Return which label a key is named like, or None, and the rest of its name.

    The rest is in lower case.
    """
    lowered = str(name).lower()
    for kind, pattern in NAMED_LIKE.items():
        if re.search(pattern, lowered):
            return kind, re.sub(pattern, ' ', lowered)
    return None, lowered


@lru_cache(maxsize=4096)
def kind_of(name: str) -> str | None:
    """Return which label a key is named like, or None; of any case and prefix."""
    kind, rest = kind_of_name(name)
    return None if OTHER.search(re.sub('[^a-z]', ' ', rest)) else kind


def is_per_atom(name: str) -> bool:
    """Return whether the name of an energy key says that it is per atom."""
    return PER_ATOM.search(str(name).lower()) is not None


def origin_of(name: str) -> str:
    """Return a name without its kind: 'ref' of REF_energy, '' of `force`."""
    words = re.findall('[a-z0-9]+', kind_of_name(name)[1])
    return ' '.join(word for word in words if word not in NO_ORIGIN)


def likeliest_first(names: Iterable[str]) -> list[str]:
    """Sort keys: the usual names of computed labels first, predictions last."""

    def rank(name: str) -> int:
        origin = origin_of(name)
        if origin in USUAL:
            return USUAL.index(origin)
        return len(USUAL) + bool(PREDICTED.search(origin))

    return sorted(names, key=rank)
