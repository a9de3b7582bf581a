"""The audit log: what is written into it, where it goes, and what it can prove."""
