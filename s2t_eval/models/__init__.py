"""Loading models and what their vocabularies share."""
