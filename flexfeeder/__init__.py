"""A live digital twin of an electricity distribution feeder."""
