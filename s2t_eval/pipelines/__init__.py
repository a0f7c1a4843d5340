"""Long commands over the harness's prompts: calibration, label collection, TaH labelling."""
