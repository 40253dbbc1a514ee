"""What is said where Dask is not installed."""

from __future__ import annotations

import sys

import pytest

from np6_async import ConfigError


def test_without_dask_its_module_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("np6_async.integrations.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'np6_async\[dask\]'"):
        import np6_async.integrations.dask  # noqa: F401
