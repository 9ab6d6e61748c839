"""Stage 4: feature tables to checkpoints."""
