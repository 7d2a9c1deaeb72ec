"""Scorers: prompts to coefficients, by numpy, torch or a server."""
