"""How fast and how lean the methods are, beside a plain implementation of each.

`python -m benchmarks.speed` compares and writes results/speed.md. It is in no wheel and decides no test, since times
belong to a machine. `plain` does what the papers' codes do, `rows` runs both sides on what `setup` makes, `measure` has
clocks and bytes, `sweep` asks how cost grows with the classes.
"""
