"""Stereo Chorus of Whispers: predicts how many words of a sung excerpt a listener writes down correctly.

Each file of this package is one concept; the scripts at the top of the repository are the stages. Nothing is
imported here, so that a script only pays for what it uses.
"""

__version__ = "0.1.0"
