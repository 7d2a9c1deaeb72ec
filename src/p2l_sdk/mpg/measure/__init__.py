"""Asking a real endpoint questions and grading what it answers."""
