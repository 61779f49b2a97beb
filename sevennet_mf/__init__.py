"""Multi-fidelity training for SevenNet.

Importing this package is light: neither torch nor sevenn is imported until
`register()` or one of the sub-packages asks for them.
"""

__version__ = '0.1.0'

__all__ = ['__version__', 'register', 'unregister']


def register() -> None:
    """Teach the installed `sevenn` the `fidelity` blocks; safe to call again.

    Raises sevennet_mf.errors.HostError if the installed sevenn lacks a seam.
    """
    from sevennet_mf import host

    host.register()


def unregister() -> None:
    """Give `sevenn` back exactly as it was before `register()`."""
    from sevennet_mf import host

    host.unregister()
