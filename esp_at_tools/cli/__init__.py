"""The command line: one file per command, one place that turns errors into exit statuses."""
