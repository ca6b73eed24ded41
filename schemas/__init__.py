"""The wire contract of FlexFeeder: topics and messages. No I/O, no clock."""
