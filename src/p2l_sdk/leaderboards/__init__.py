"""Numbers to leaderboards: one prompt's, the aggregate of many, the likelihood of pairs."""
