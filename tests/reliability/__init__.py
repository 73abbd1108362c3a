"""The reliability scorecard: one module for each subject, one command that prints the table."""
