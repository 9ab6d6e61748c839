"""What predicts: the transformer, the word model, and their checkpoints."""
