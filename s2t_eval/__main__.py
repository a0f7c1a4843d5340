"""Run line: python -m s2t_eval --help"""

from s2t_eval.cli import main

main()
