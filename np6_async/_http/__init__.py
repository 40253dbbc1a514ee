"""One request, well behaved: transport, retries, rate limit, concurrency, and who is told. Knows no event."""
