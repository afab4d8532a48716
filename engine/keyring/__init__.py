"""The life of keys: made, made current and proven, noted with their age, kept offline, and left behind."""
