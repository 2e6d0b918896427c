"""Labels out to people and their programs, and back."""
