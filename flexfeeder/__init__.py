"""A live digital twin of an electricity distribution feeder."""

__version__ = "0.1.0"
