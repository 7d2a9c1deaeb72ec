"""Costs and scores to the LLM to call, within a budget."""
