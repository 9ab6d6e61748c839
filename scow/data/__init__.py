"""What is on disk: metadata, feature tables, their provenance, audio, scores."""
