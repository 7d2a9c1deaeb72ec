"""Model folders and Hub repositories: reading, writing, fetching, publishing, their cards."""
