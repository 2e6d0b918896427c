"""One fixed script per peer: the documented way of each library, a typical and a best-effort variant, versions printed."""
