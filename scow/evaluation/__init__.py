"""Stage 6: scores against what listeners wrote down."""
