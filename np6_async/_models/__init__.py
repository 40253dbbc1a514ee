"""What there is: events, contacts, bounds of time, and how they are made of JSON. No I/O."""
