"""Keyrings of projects, and other systems that they ask."""
