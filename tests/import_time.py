"""Prints what `import np6_async` costs on top of its dependencies. Not a test: times are measured, not asserted.

python tests/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys

DEPENDENCIES = "import aiohttp, attrs, cattrs, msgspec"
CODE = "import time; {before}; begin = time.perf_counter(); {then}; print(time.perf_counter() - begin)"


def measure(before: str, then: str) -> float:
    """Median milliseconds that `then` takes after `before`, each time in a new process."""
    code = CODE.format(before=before, then=then)
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(9)]
    return statistics.median(float(run.stdout) for run in runs) * 1000


if __name__ == "__main__":
    print(f"dependencies (aiohttp, attrs, cattrs, msgspec): {measure('pass', DEPENDENCIES):.0f} ms")
    print(f"np6_async on top of them: {measure(DEPENDENCIES, 'import np6_async'):.1f} ms (median of 9)")
