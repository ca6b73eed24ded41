"""Messages as a service hears them."""

from typing import Any

from hypothesis import strategies as st

from flexfeeder.contract.table import MESSAGES
from fuzz.addresses import topics_below
from fuzz.payloads import Payload, encoded, payloads
from services.bus import Message

EXAMPLES: dict[Any, dict[str, Any]] = {message.model: message.example for message in MESSAGES}
"""A valid message of each kind, by its model."""


def messages(*valid: Any, among: st.SearchStrategy[str]) -> st.SearchStrategy[Message]:
    """Anything in place of the valid ones, on topics among these, with any MQTT 5 properties."""
    likely = payloads(*valid)
    intact = st.sampled_from(valid).map(encoded).map(Payload)
    proper = st.sampled_from([None, "flexfeeder/reply/me"])
    return st.builds(
        lambda topic, payload, retained, response_topic, correlation: Message(
            topic, payload.content, retained, response_topic, correlation, (1, 1, 1)
        ),
        among,
        st.one_of(intact, intact, likely, likely, likely),
        st.sampled_from([False] * 9 + [True]),
        st.one_of(proper, proper, proper, st.text(max_size=20), topics_below),
        st.none() | st.binary(max_size=20),
    )
