"""The loop: steps, evaluation after each epoch, checkpoints."""
