"""What the commands run on the harness's prompts: calibration, label collection, labels of hard tokens."""
