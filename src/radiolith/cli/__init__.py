"""The commands: they translate arguments into calls of `app`, and answers into words and exit codes."""
