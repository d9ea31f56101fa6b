"""`python -m benchmarks`: what streaming costs, measured on this machine. See docs/performance.md."""
