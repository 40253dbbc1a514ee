"""A web page that shows the events of a contact while they stream in: `python -m examples.timeline`."""
