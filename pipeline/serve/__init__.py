"""``batchone serve``: parcels in, status and events, answers of the reviewer, released jobs out; over HTTPS.

The case folder is the truth: everything about a case is read from it. Only who may sign in, and with what, lies in
``<site>/server.sqlite``.
"""
