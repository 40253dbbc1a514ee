"""Requests go both ways where a module says so."""

from support.ways import pytest_generate_tests, way

__all__ = ["pytest_generate_tests", "way"]
