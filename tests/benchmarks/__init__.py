"""What a guarded request costs: this app beside its peers, each set up as its own README says.

    python -m pip install -e '.[bench]'
    python -m tests.benchmarks --help

Needs a PostgreSQL server whose user may create databases (unless --database sqlite), and wrk for --http.
"""
