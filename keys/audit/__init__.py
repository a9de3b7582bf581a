"""The audit log: what is written to it, where, and how it is verified."""
