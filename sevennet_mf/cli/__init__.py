"""The command line, `sevennet-mf`: it parses at once, and imports the work late."""

from sevennet_mf.cli.entry import BAD_INPUT, DONE, FAILED, FUSED, main
from sevennet_mf.cli.parser import make_parser

__all__ = ['BAD_INPUT', 'DONE', 'FAILED', 'FUSED', 'main', 'make_parser']
