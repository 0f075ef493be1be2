"""A stand-in for matplotlib, of which it has what the driver asks."""
