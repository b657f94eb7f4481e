"""Coverage-guided fuzzing of what reads hostile bytes: `make fuzz`, see docs/testing.md."""
