"""`python -m refseg` does what `refseg` does."""

import sys

from refseg.cli import main

sys.exit(main())
