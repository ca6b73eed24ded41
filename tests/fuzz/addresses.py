"""Topics that somebody may think of, below ``flexfeeder/`` and as MQTT lets them be."""

from hypothesis import strategies as st

FEEDERS = ("ieee123", "IEEE123", "ieee13", "dfp", "reply", "service", "x", "a b", "é", "")

KINDS = (
    *("command", "meter", "meters", "adjustments", "topology", "state", "alert", "program"),
    *("setpoint", "status", "", "x"),
)

NAMES = (
    *("1", "2", "48", "150", "149", "9999", "Load_1", "LOAD_1", "Load_2", "set_load", "register"),
    *(
        "run_simulation",
        "solver-ieee123",
        "dfp_manager",
        "gateway-1",
        "",
        " ",
        "a b",
        "é",
        "\ufeff",
    ),
    *("1.1", '"1"', "$SYS", "x" * 64, "x" * 65, "x" * 1000, "command", "\x1b[2J", "\u200b"),
)

_words = st.text(
    st.characters(exclude_characters="+#/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
)

levels = st.sampled_from(NAMES) | _words
"""One level of a topic."""

feeders = st.sampled_from(FEEDERS) | _words

topics_below = st.one_of(
    st.tuples(feeders, st.sampled_from(KINDS)),
    st.tuples(feeders, st.sampled_from(KINDS), levels),
    st.tuples(feeders, st.sampled_from(KINDS), levels, levels),
    st.lists(levels, min_size=1, max_size=7).map(tuple),
).map(lambda parts: "/".join(["flexfeeder", *parts]))
"""A topic below ``flexfeeder/``."""
