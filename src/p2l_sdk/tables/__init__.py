"""Any table, from a file, the Hub or memory, as checked columns; settings files."""
