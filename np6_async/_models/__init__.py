"""The data model: events, contacts, time bounds, and how they are decoded from JSON. No I/O."""
