#!/usr/bin/env bash
# sphinx-llm takes every Markdown file of its own build for a page: one that a page merely links to, as a download, is
# listed in llms.txt as a page, and an error is logged for it, which fails a build with -W. And sphinx-markdown-builder,
# on which it stands, does not know the asterisk of a signature. So docs/conf.py leaves such links out of the Markdown.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check sphinx==9.0.4 sphinx-llm==1.1.0 sphinx-markdown-builder==0.6.11

mkdir docs
printf 'extensions = ["sphinx.ext.autodoc", "sphinx_llm.txt"]\nhtml_theme = "basic"\n' > docs/conf.py
printf 'Site\n====\n\nSee :download:`the notes <notes.md>`.\n\n.. py:function:: fetch(contact, *, limit=None)\n' > docs/index.rst
printf '# Notes\n\nNo page of the site.\n' > docs/notes.md
venv/bin/python -m sphinx -q -b html docs html > log 2>&1 || true

venv/bin/pip list --format freeze 2> /dev/null | grep -iE '^sphinx(-llm|-markdown-builder)?=='
echo "A file that a page links to as a download is listed as a page:"
grep _downloads html/llms.txt
echo "and what is logged:"
grep -m 1 "^FileNotFoundError" log
grep -m 1 "unknown node type: <abbreviation" log
