"""The services of FlexFeeder, each a process of its own; they share messages and nothing else."""
