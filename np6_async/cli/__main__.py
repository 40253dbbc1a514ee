"""`python -m np6_async.cli` is `np6`."""

import sys

from . import main

sys.exit(main())
