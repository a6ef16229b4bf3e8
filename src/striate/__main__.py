"""`python -m striate`, the same as `striate`."""

import sys

from striate.cli import main

if __name__ == "__main__":
    sys.exit(main())
