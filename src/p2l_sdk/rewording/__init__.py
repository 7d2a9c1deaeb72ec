"""Prompts changed in ways that do not change what they ask: to measure whether a model stays put, and to teach it to.

`changes` are those that measure, `copies` those that teach. Their wordings differ, since a model that has seen the very
words that measure it would only have learned these.
"""
