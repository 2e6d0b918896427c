"""The routes, by what they are about; each is in the table of ``rights``."""
