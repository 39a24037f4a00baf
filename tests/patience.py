"""How long a test waits for another process before it takes it for hung.

Nothing that a test starts takes nearly as long on any machine that works: the number ends what
hangs, and judges no speed.
"""

PATIENCE_S = 280.0
