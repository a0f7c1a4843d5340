"""One command from two models to the paper's tables: recipes, their stages, and the run that resumes."""
