"""Search: greedy and beam, over any model with the decoding contract."""
