"""The work of all requests, shared out to one device."""
