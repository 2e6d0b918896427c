"""One module for each command of the command line that is more than a few lines."""
