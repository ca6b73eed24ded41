"""How fast FlexFeeder is: one module a question, each figure beside a baseline of the same run."""
