"""Server: faces that other programs speak to; they only call operations."""
