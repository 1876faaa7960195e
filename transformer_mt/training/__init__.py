"""Training: loss, schedule, metrics and the loop."""
