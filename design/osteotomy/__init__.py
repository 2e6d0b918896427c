"""The osteotomy guide: where the saw goes through a long bone, and the guide that leads it there."""
