"""Write the description of NP6's API as JSON: python -m np6_async.testing > np6.json."""

from __future__ import annotations

import json
import sys

from . import openapi

json.dump(openapi(), sys.stdout, indent=2)
sys.stdout.write("\n")
