"""Configurations of proxies that ask the auth service about each request, and what runs them."""
