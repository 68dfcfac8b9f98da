"""A PNG encoder that works while rows arrive. Imports nothing else of app."""
