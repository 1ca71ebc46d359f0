"""Other people's files, one format a module, both ways."""
