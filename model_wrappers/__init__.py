"""The lm_eval model classes, one file a backend: parse arguments, call the engine, return text."""
