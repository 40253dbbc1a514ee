"""The documentation as a site; docs/contributing.md has the command that builds it."""

from __future__ import annotations

import json
import os
import re
from os.path import relpath
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from np6_async import (
    Actions,
    ActionStream,
    BulkStream,
    CampaignEvents,
    Campaigns,
    ContactIds,
    Contacts,
    Cursor,
    Event,
    EventKind,
    Events,
    EventStream,
    Hook,
    Pages,
    Reactivities,
    RedList,
    RedListEntries,
    RedListOrigin,
    Segments,
    __version__,
    blocking,
)
from np6_async.export import Column
from np6_async.report import Totals
from np6_async.sync import SyncRun
from np6_async.testing import Fault

project = "np6_async"
author = "The np6_async maintainers"
copyright = f"2026, {author}"  # noqa: A001 - the name that Sphinx knows
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_llm.txt"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# Docstrings write `names` in single backticks: a link where there is such a name.
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_type_aliases = {"Bound": "Bound"}
maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

# What docs/versions.py says of the version it builds and of all others; nothing where
# one is built alone.
html_context = json.loads(os.environ.get("POLYVERSION_DATA", "{}"))
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"np6_async {html_context.get('shown', version)}"
html_copy_source = False
html_show_sourcelink = False

# For programs that read: an index, each page as Markdown, and all of them in one file.
llms_txt_description = "The asyncio-first Python SDK for the contact events of NP6."
llms_txt_full_build = True
llms_txt_suffix_mode = "replace"

# Nobody calls these: the client makes them, or a method of theirs does.
_NOT_CALLED = {
    Actions,
    ActionStream,
    BulkStream,
    CampaignEvents,
    Campaigns,
    Column,
    ContactIds,
    Contacts,
    Cursor,
    EventKind,
    Events,
    EventStream,
    Fault,
    Hook,
    Pages,
    Reactivities,
    RedList,
    RedListEntries,
    RedListOrigin,
    Segments,
    SyncRun,
    Totals,
    *(getattr(blocking, name) for name in blocking.__all__ if name != "NP6Client"),
}


def _signature(
    _app: Sphinx,
    what: str,
    _name: str,
    value: Any,
    _options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """What a signature shows beside what a caller may write."""
    if signature is None:
        return None
    an_event = isinstance(value, type) and issubclass(value, Event)
    if what == "exception" or an_event or value in _NOT_CALLED:
        return "", None
    signature = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", signature)
    # Defaults that are made anew, or have an address in their repr.
    return re.sub(r"<[a-z][^<>]*>|\bNOTHING\b", "...", signature), returns


def _link_files(app: Sphinx, document: nodes.document) -> None:
    """Where a link leads to a Markdown file that is no page of this site: the file.

    Only the HTML takes it along.
    """
    for link in list(document.findall(pending_xref)):
        target = Path(f"{link.get('reftarget')}.md")
        if target.is_absolute() and target.is_file():
            page = Path(app.env.doc2path(app.env.docname)).parent
            file = download_reference("", "", link[0], reftarget=relpath(target, page))
            link.replace_self(file if app.builder.format == "html" else link[0])


def _nothing(*_: object) -> None:
    """Its text is all that Markdown needs of a node."""


def _prefer_async(_app: Sphinx, document: nodes.document) -> None:
    """A name that both clients have is the async one, but on the page of the other."""
    for link in document.findall(pending_xref):
        target = link.get("reftarget")
        if (
            link.get("refdomain") == "py"
            and target in blocking.__all__
            and link.get("py:module") != blocking.__name__
        ):
            link["reftarget"] = f"np6_async.{target}"


def setup(app: Sphinx) -> None:
    # The asterisk of a signature, which the builder of Markdown does not know.
    app.add_node(nodes.abbreviation, override=True, markdown=(_nothing, _nothing))
    app.connect("doctree-read", _prefer_async)
    app.connect("autodoc-process-signature", _signature)
    app.connect("doctree-read", _link_files, priority=400)  # files are collected at 500
    # One signature for each call, in place of five that differ in `kind` alone.
    for module in (
        "_api.actions",
        "_api.campaigns",
        "_api.events",
        "blocking._account",
        "blocking._actions",
        "blocking._events",
        "sync._sync",
    ):
        calls = ModuleAnalyzer.for_module(f"np6_async.{module}")
        calls.analyze()
        calls.overloads.clear()
