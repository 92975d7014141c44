"""The page and what stands around every request."""
