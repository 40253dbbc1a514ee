"""Files of events that survive a kill: what `np6 export` writes, and how it finds its way back.

The writers and the folder block; they know nothing of a command line and nothing of a client. Not part of what
`np6_async` promises to programs.
"""
