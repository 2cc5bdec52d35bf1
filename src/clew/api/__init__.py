"""The Python face: `clew.open`, and the same without async. Parses and calls; no rule about threads lives here."""
