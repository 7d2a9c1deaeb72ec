"""Where results are written: whole or not at all, refused before the work where that is not possible, never thrown away
once they are finished; and what killed runs left over."""
