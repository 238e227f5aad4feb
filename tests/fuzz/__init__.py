"""Attacks from outside, made from seeds: files, names, states, settings, node inputs, signals.

    make fuzz MINUTES=10
    python -m tests.fuzz --full                                      # see harness.FULL
    python -m tests.fuzz --minutes 10 --attacks images checkpoints
    python -m tests.fuzz --attacks images --seed 1234 --count 1      # one case again

Each attack is a function of a seed. A fault is a traceback, success without a right result, more
than 30 seconds or 1.5 GB, a file changed that was not asked for, or something lost without a word.
"""
