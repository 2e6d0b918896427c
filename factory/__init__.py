"""What happens to a job folder in an additive-manufacturing cell."""
