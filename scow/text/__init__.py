"""The words of lyrics and transcripts."""
