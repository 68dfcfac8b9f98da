"""From weights to pixels: what the service and the training share."""
