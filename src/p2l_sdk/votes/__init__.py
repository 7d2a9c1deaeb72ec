"""Votes and scores as arrays, their counts, and the averaged leaderboard that they give."""
