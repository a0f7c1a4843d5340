"""The requests and policies of the engine on vLLM servers: student and teacher behind HTTP."""
