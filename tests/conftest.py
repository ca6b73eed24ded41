"""What all tests share."""

from hypothesis import settings

# These machines are shared: how long an example takes says nothing about the code.
settings.register_profile("flexfeeder", deadline=None)
settings.load_profile("flexfeeder")
