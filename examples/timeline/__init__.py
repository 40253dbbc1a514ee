"""Web pages that show the events of a contact, and of the whole account, as they arrive: `python -m examples.timeline`."""
