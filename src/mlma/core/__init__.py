"""Pure mathematics and decisions. No clock, chance, I/O or logging lives here."""
