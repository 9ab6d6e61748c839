"""Stages 2 and 3: signals to feature columns."""
