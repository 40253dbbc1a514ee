"""np6_async in other people's systems: one module for each optional extra, none of them imported by the package."""
