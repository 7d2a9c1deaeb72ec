"""Templates of the cards that are published beside models. Data only."""
