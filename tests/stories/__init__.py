"""What people do with an archive on a bad day, played end to end with real programs."""
