"""Who may do what, with which keys, and how we prove it afterwards."""
