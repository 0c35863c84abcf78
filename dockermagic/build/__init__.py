"""The solver: stages become vertices, vertices become layers."""
