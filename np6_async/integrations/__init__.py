"""Integrations with other systems: one module for each optional extra, none of them imported by the package."""
