"""Tables, figures and claims from the records of a run."""
