"""The domain: pure, without I/O, clock, randomness or logging."""
