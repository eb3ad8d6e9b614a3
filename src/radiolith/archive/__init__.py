"""The verbs. Each authorises first, acts, and leaves an audit record before it answers; no interface gets round them."""
