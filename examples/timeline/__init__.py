"""Web pages with the events of a contact and of the whole account as they arrive: `python -m examples.timeline`."""
