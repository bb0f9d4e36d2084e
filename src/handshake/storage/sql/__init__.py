"""SQL: named queries and numbered migrations, as text."""
