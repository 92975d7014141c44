"""`python -m refseg` does what `refseg` does."""

import sys

from refseg.cli.main import main

sys.exit(main())
