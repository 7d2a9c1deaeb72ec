"""Scoring behind the server: a bounded queue, batches on worker threads, a cache."""
