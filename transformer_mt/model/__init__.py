"""The network: attention, layers, the Transformer, the state of decoding."""
