"""What API keys have spent and may spend, in a store that outlives the server and is shared by several."""
