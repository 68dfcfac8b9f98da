"""Who may do what, and how much of it: API keys, their rights and their limits. Knows no HTTP."""
