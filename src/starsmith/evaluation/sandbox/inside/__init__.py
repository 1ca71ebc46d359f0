"""What runs inside a sandbox; imports nothing but the standard library and itself."""
