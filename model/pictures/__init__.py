"""Reading pictures: bytes to samples, and what the samples mean. The service and training both read through here."""
