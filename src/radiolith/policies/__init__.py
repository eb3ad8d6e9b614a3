"""What should happen by itself: rules that follow the change feed, decide purely and act through one door."""
