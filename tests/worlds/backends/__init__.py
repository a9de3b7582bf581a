"""Database backends of projects' own."""
