"""Benchmarks of Campaign Reports on real parts: `python -m bench [NAME…]`. How to read them: `bench/README.md`.

One module per promise; each has `run(folder)`, which starts what it needs in that folder and gives figures.
"""
