"""Real photos of every format that is read, broken in many ways, and what must hold for all."""
