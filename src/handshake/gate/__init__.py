"""Gate: where a decision becomes an effect outside, between two commits."""
