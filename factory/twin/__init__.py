"""A machine in simulated time: it executes the layers of a job or build folder, measures itself, and takes pictures."""
