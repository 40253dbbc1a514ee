"""What NP6 speaks: what is asked, and how the bytes of a response become events. No I/O, no event loop."""
