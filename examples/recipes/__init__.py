"""np6_async in other kinds of workers: each module is one recipe, explained in docs/how-to/workers.md."""
