"""Authorization enforced: facts are brought to the decision, and everybody is held to what it said."""
