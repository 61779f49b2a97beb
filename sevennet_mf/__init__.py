"""Multi-fidelity training for SevenNet.

Importing this package is quick: neither torch nor sevenn is imported until
`register()` or one of the sub-packages needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sevennet_mf.calculators.delta import DeltaCalculator
    from sevennet_mf.calculators.fidelity import FidelityCalculator

__version__ = '0.1.0'

__all__ = [
    'DeltaCalculator',
    'FidelityCalculator',
    '__version__',
    'register',
    'unregister',
]


def __getattr__(name: str) -> Any:
    if name == 'FidelityCalculator':
        from sevennet_mf.calculators.fidelity import FidelityCalculator

        return FidelityCalculator
    if name == 'DeltaCalculator':
        from sevennet_mf.calculators.delta import DeltaCalculator

        return DeltaCalculator
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def register() -> None:
    """Teach the installed `sevenn` the `fidelity` blocks; safe to call again.

    Raises:
        HostError: The installed `sevenn` lacks a function that is wrapped, or has
            it with other arguments.
    """
    from sevennet_mf import host

    host.register()


def unregister() -> None:
    """Give `sevenn` back exactly as it was before `register()`.

    Raises:
        HostError: Somebody else has wrapped what `register()` put in place.
    """
    from sevennet_mf import host

    host.unregister()
