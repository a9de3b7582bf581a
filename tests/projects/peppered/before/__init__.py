"""A project that keeps an HMAC of each token, made with a pepper from the environment."""
