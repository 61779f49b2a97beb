"""`python -m sevennet_mf.cli` is `sevennet-mf`."""

import sys

from sevennet_mf.cli.entry import main

if __name__ == '__main__':
    sys.exit(main())
