"""Run the command line as ``python -m flowstore.cli``."""

import sys

from flowstore.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
