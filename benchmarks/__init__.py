"""Commands that measure, one file each; their parts are in `rig/`. Machines are noisy: compare within one run."""
