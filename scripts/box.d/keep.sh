die '-k: not yet'
