"""Commands: parse, load the settings, call a stage, print. Nothing heavy is imported before it is needed."""
