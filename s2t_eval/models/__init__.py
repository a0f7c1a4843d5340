"""Loading of models and adapters, their output heads and vocabularies."""
