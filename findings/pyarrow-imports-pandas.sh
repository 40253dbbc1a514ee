#!/usr/bin/env bash
# pyarrow imports pandas, where it is installed, to make an array of a list of texts whose type is given, or to take a
# text of Python as the argument of a function. So np6_async/_columns/buffers.py makes arrays of buffers.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6

echo "pyarrow imports pandas for an array of one text, and for a function of a text of Python; not for its own arrays."
"$folder/venv/bin/python" - <<'END'
import subprocess
import sys
from importlib.metadata import version

print("pyarrow", version("pyarrow"), "pandas", version("pandas"))
head = """
import sys
import pyarrow as pa
import pyarrow.compute as pc
buffers = [None, pa.py_buffer((0).to_bytes(4, "little") + (1).to_bytes(4, "little")), pa.py_buffer(b"a")]
made = pa.Array.from_buffers(pa.string(), 1, buffers)
"""
programs = {
    "an array of a list": 'pa.array(["a"], pa.string())',
    "a function of a text": 'pc.binary_join_element_wise(made, "-")',
    "a function of an array": "pc.binary_join_element_wise(made, made, made)",
}
found = {}
for name, program in programs.items():
    code = f'{head}{program}\nprint("pandas" in sys.modules)'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found[name] = done.stdout.strip() == "True"
    print(name, "->", "pandas is imported" if found[name] else "pandas is not imported")
sys.exit(list(found.values()) != [True, True, False])
END
