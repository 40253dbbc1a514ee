"""Requests go both ways where a module says so."""

from support.ways import pytest_generate_tests, taken, way

__all__ = ["pytest_generate_tests", "taken", "way"]
