"""The script: each scene says who sends what, and which answer is expected."""
