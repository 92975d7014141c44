"""The pages, and what surrounds every request."""
