"""The text: reading, cleaning, subwords, the token store, batches."""
