"""The library behind predict.py."""
