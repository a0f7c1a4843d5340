"""Token-level selection (Select-to-Think) and its baselines as lm-evaluation-harness backends.

Kept free of imports: the start-up hook imports this package at every interpreter start.
"""

__version__ = "0.1.0"
