"""Work spread over processes, and how it tells a person what it is doing."""
