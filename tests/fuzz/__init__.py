"""What nobody thought of: made-up messages, sequences and requests, and what must hold for all."""

import pytest

pytest.register_assert_rewrite("fuzz.asking", "fuzz.shapes")
