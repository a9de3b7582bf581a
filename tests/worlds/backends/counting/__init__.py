"""A backend that counts queries, around the vendor's."""
