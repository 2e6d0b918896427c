"""A plate or cake of many released jobs: nested, sliced, sealed and verified as a job folder is."""
