"""Proof by harm: a real system is killed, paused and cut off while clients write to it, and what
is left is held against what was promised.
"""
