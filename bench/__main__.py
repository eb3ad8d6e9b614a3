"""`python -m bench`: the comparison, as `make bench` runs it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from compare import main

sys.exit(main())
