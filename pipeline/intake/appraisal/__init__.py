"""What the pixels of a series say about its quality; measured, never assumed. numpy alone: it runs in the core install."""
