"""Now against a stored baseline: pass, regression, inconclusive, or a refusal to compare. Reads stored cells alone.

Cells are matched by (method, task, seed) and not by id: a method's changed code changes the id, and is what a gate is
for. What the comparison rests on must be equal: schema, backbone, precision, weights, protocol, pictures and labels;
where it is not, or where a cell is missing, there is no verdict but a refusal with the field and both values.
"""

from bench.gate.decide import compare, judged
from bench.gate.model import EXIT, Change, Failure, Gate, Refusal, Row
from bench.gate.text import as_github, as_json, show, summary

__all__ = [
    "EXIT",
    "Change",
    "Failure",
    "Gate",
    "Refusal",
    "Row",
    "as_github",
    "as_json",
    "compare",
    "judged",
    "show",
    "summary",
]
