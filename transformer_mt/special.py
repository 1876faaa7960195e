"""The ids of special tokens, the same in every vocabulary; they cannot be typed: ``</s>`` in text is text."""

PAD, UNK, BOS, EOS = range(4)
