"""What the commands run on the harness's prompts.

Calibration, the collection of labels, labels of R2R and of Think-at-Hard, RLKD, regrading, and single texts.
"""
