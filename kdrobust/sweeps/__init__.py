"""Many runs as one study: searches over a space of settings, and what became of their jobs."""
