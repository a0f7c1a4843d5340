"""Tree of Thoughts: several continuations of each line, of which the best by a value are continued."""
