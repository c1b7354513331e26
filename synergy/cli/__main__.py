"""``python -m synergy.cli``: the same command line, for the project in the working directory."""

import sys

from synergy.cli import main

if __name__ == "__main__":
    sys.exit(main())
