"""Does a guide seat in one place only: rigid contact of its underside on the bone, stability, wrong seats, friction, way out."""
