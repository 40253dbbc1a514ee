"""Programs that use np6_async, each started as its README says. They import its public names only."""
